-- The lens: what the journal says, as tables. `records` holds every readable line; the views below count nothing twice.

create view void_batches as
    select distinct batch from records where kind = 'proof' and verdict = 'void';

-- One row an answer: a key that two processes wrote stands here once.
create view completions as
    select * exclude (place) from (
        select seq, time, key, run, checkpoint, iteration, digest, identity, suite, suite_version, suite_digest, sample,
               "group", "index", batch, prompt, options, text, finish_reason, prompt_tokens, completion_tokens, seconds, logprob,
               coalesce(repeat, 0) as repeat,
               row_number() over (partition by key order by seq) as place
        from records
        where kind = 'completion' and coalesce(batch, '') not in (from void_batches)
    ) where place = 1;

-- The suites as each run last used them, with the base's identity of that time.
create view run_suites as
    select run, seq, base, engine, engine_version, identity, used.name as suite, used.version as suite_version,
           used.digest as suite_digest, used.groups as groups, used.metrics as metrics, used.goal as goal
    from (select *, row_number() over (partition by run, used.name order by seq desc) as place
          from (select run, seq, base, engine, engine_version, identity, unnest(from_json(suites,
                    '[{"name":"VARCHAR","version":"BIGINT","digest":"VARCHAR","groups":["VARCHAR"],"metrics":["VARCHAR"],"goal":"JSON"}]')) as used
                from records where kind = 'run'))
    where place = 1;

-- Every sample's standing result under every metric, wherever it was asked: a score beats a failure, the latest beats the rest.
create view all_cells as
    select * exclude (place) from (
        select seq, time, run, checkpoint, iteration, digest, identity, suite, suite_version, suite_digest, sample, "group",
               "index", metric, coalesce(repeat, 0) as repeat, completion, batch,
               case when kind = 'score' then 'scored' when error_class = 'truncated' then 'truncated' else 'failed' end
                   as outcome,
               case when value in ('true', 'false') then (value = 'true')::int::double else try_cast(value as double) end
                   as value,
               value in ('true', 'false') as boolean,
               low, high, scorer, scorer_version, detail, error_class, reason,
               row_number() over (
                   partition by run, digest, identity, suite, suite_digest, sample, metric, coalesce(repeat, 0)
                   order by (kind = 'score') desc, seq desc) as place
        from records
        where kind in ('score', 'failure') and coalesce(batch, '') not in (from void_batches)
    ) where place = 1;

-- Each checkpoint file as last seen.
create view checkpoints as
    select * exclude (place) from (
        select seq, time, run, checkpoint, iteration, path, size, modified_ns, coalesce(digest, '') as digest,
               coalesce(reason, '') as reason, row_number() over (partition by run, path order by seq desc) as place
        from records where kind = 'checkpoint'
    ) where place = 1;

-- Weights that other weights have taken the place of, in every file that held them: nobody can ship them any more.
create view overwritten as
    select distinct run, digest from records
    where kind = 'checkpoint' and coalesce(digest, '') <> ''
    except
    select run, digest from checkpoints
    except
    select r.run, r.digest from records r join checkpoints c using (run, path) where r.kind = 'checkpoint' and c.digest = '';

-- The same, of each run's present suites and base only: what tables show.
create view cells as
    select c.* from all_cells c
    semi join run_suites r using (run, suite, suite_digest, identity)
    anti join overwritten o using (run, digest);

create view scores as select * from cells where outcome = 'scored';
create view failures as select * from cells where outcome <> 'scored';

-- What each batch's closing fingerprint said; a batch without one (its writer was killed) is not here.
create view batches as
    select * exclude (place) from (
        select seq, time, run, digest, identity, batch, verdict, coalesce(reason, '') as reason,
               row_number() over (partition by batch order by seq desc) as place
        from records where kind = 'proof' and verdict <> 'open'
    ) where place = 1;

-- An adapter is live in a suite when every answer there was given in a batch that was shown to be live.
create view proofs as
    select c.run, c.suite, c.digest, c.identity,
           case when bool_and(coalesce(b.verdict, '') = 'live') then 'live' else 'unproven' end as verdict,
           coalesce(max(b.reason), '') as reason
    from cells c left join batches b using (batch) where c.digest <> ''
    group by c.run, c.suite, c.digest, c.identity;

create view checkpoint_scores as
    select c.run, c.checkpoint, c.iteration, c.digest, c.suite, c.suite_version, c."group", c.metric,
           avg(c.value) as mean,
           case when bool_and(c.boolean) filter (where c.outcome = 'scored') then sum(c.value)::bigint end as correct,
           count(*) as asked,
           count(*) filter (where c.outcome = 'scored') as scored,
           count(*) filter (where c.outcome = 'failed') as failed,
           count(*) filter (where c.outcome = 'truncated') as truncated,
           case when c.digest = '' then null else coalesce(any_value(p.verdict), 'unproven') end as proof
    from cells c left join proofs p using (run, suite, digest, identity)
    group by c.run, c.checkpoint, c.iteration, c.digest, c.suite, c.suite_version, c."group", c.metric
    order by c.run, c.suite, c.iteration, min(c."index"), c.metric;

create view probe_results as
    select c.run, c.checkpoint, c.iteration, c.digest, c.suite, c."group", c.sample, c.metric, c.outcome, c.value,
           a.prompt, a.text as response, a.finish_reason, c.detail, c.reason
    from cells c left join completions a on c.completion = a.key
    order by c.run, c.suite, c.iteration, c."index", c.metric;

-- Answers scored from files, as each run last scored them: one row an answer; `scores` is JSON by suite and metric.
create view answers as
    select * exclude (place) from (
        select seq, time, run, source, line, model, sample, scores, failures,
               row_number() over (partition by run, model, sample order by seq desc) as place
        from records where kind = 'answer'
    ) where place = 1;
