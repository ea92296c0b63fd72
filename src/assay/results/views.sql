-- The lens: what the journal says, as tables. `records` holds every readable line; the views below count nothing twice.

create view void_batches as
    select distinct batch from records where kind = 'proof' and verdict = 'void';

-- Answers and their results, under the label that their weights have now; it was another one if their file was moved since.
create macro results() as table
    select r.* replace (coalesce(l.checkpoint, r.checkpoint) as checkpoint, coalesce(l.iteration, r.iteration) as iteration)
    from records r left join labels l on r.run = l.run and r.digest = l.digest
    where kind in ('completion', 'weighed', 'score', 'failure');

-- What an answer from a file is known by. Before repeats had a field of their own, the second answer to `a` was `a#2`.
create macro answer_name(sample, repeat) as
    sample || case when coalesce(repeat, 0) > 0 then '#' || (repeat + 1) else '' end;

-- One row an answer: a key that two processes wrote stands here once.
create view completions as
    select * exclude (place) from (
        select seq, time, key, run, checkpoint, iteration, digest, identity, suite, suite_version, suite_digest, sample,
               "group", "index", batch, prompt, options, text, finish_reason, prompt_tokens, completion_tokens, seconds, logprob,
               coalesce(repeat, 0) as repeat,
               row_number() over (partition by key order by seq desc) as place
        from results()
        where kind = 'completion' and coalesce(batch, '') not in (from void_batches)
    ) where place = 1;

-- One row a text that was weighed: the same of those that no answer is asked for.
create view weighed as
    select * exclude (place) from (
        select seq, time, key, run, checkpoint, iteration, digest, identity, suite, suite_version, suite_digest, sample,
               "group", "index", batch, coalesce("at", 0) as "at", tokens, logprob, greedy,
               row_number() over (partition by key order by seq desc) as place
        from results()
        where kind = 'weighed' and coalesce(batch, '') not in (from void_batches)
    ) where place = 1;

-- One row a question of a suite as it was asked, whatever run asked it.
create view samples as
    select * exclude (place) from (
        select seq, time, suite, suite_version, suite_digest, sample, "group", "index", prompt, coalesce(form, 'text') as form,
               coalesce(reference, '{}') as reference, coalesce(scorer, '') as scorer, coalesce(parameters, '{}') as parameters,
               row_number() over (partition by suite_digest, sample order by seq desc) as place
        from records where kind = 'sample'
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

-- What each measure's judge is called: by the name that it was last asked under.
create view judges as
    select measure, arg_max(judge, (seq, time, judge)) as judge from records where coalesce(measure, '') <> '' group by measure;

-- Every sample's standing result under every metric and measure, wherever it was asked: a score beats a failure, the latest
-- beats the rest. An answer from a file may have been given anew, so there the latest beats all.
create view all_cells as
    select * exclude (place, named) replace (coalesce(named, judge, '') as judge) from (
        select seq, time, run, checkpoint, iteration, digest, identity, suite, suite_version, suite_digest, sample, "group",
               "index", metric, r.judge, coalesce(r.measure, '') as measure, j.judge as named,
               coalesce(repeat, 0) as repeat, completion, batch,
               case when kind = 'score' then 'scored' when error_class = 'truncated' then 'truncated' else 'failed' end
                   as outcome,
               case when value in ('true', 'false') then (value = 'true')::int::double else try_cast(value as double) end
                   as value,
               value in ('true', 'false') as boolean,
               low, high, scorer, scorer_version, detail, error_class, reason, weight,
               coalesce(lower_is_better, false) as lower_is_better, coalesce(geometric, false) as geometric,
               row_number() over (
                   partition by run, digest, identity, suite, suite_digest, answer_name(sample, repeat), metric,
                       coalesce(r.measure, '')
                   order by (kind = 'score' and identity <> from_files()) desc, seq desc) as place
        from results() r left join judges j using (measure)
        where kind in ('score', 'failure') and coalesce(batch, '') not in (from void_batches)
    ) where place = 1;

-- The edited version of a suite that a metric was scored by again: `clarity (e4dd4b)`; '' where it was what was asked.
create macro edition_of(metric) as regexp_extract(metric, ' \((\w+)\)$', 1);

-- Who judged in each run and suite, and by which measures. Of a judge's measures under one rubric the one used last stands:
-- tables show it alone, so that no average mixes two. What was judged by an edited suite stands beside that, by its own last.
create view measures as
    select *, row_number() over (
                  partition by run, identity, suite, suite_digest, edition, scorer, judge
                  order by seq desc, time desc, measure) = 1 as standing
    from (select run, identity, suite, suite_digest, edition_of(metric) as edition, scorer, j.judge, measure, max(seq) as seq,
                 max(time) as time
          from records r join judges j using (measure)
          where kind in ('score', 'failure') and coalesce(batch, '') not in (from void_batches)
          group by run, identity, suite, suite_digest, edition, scorer, j.judge, measure);

-- Each checkpoint file as last seen.
create view checkpoints as
    select * exclude (place) from (
        select seq, time, run, checkpoint, iteration, path, size, modified_ns, coalesce(digest, '') as digest,
               coalesce(reason, '') as reason, coalesce(gone, false) as gone,
               row_number() over (partition by run, path order by seq desc) as place
        from records where kind = 'checkpoint'
    ) where place = 1;

-- Weights that other weights have taken the place of, in every file that held them: nobody can ship them any more. Those that
-- could not be used have taken a place as well, once they were read.
create view overwritten as select run, digest from labels where checkpoint is null;

-- The same, of each run's present suites and base only, by the measures that stand: what tables show.
create view cells as
    select c.* from all_cells c
    semi join run_suites r using (run, suite, suite_digest, identity)
    anti join overwritten o using (run, digest)
    anti join (from measures where not standing) m
        on (c.run, c.identity, c.suite, c.suite_digest, c.measure, edition_of(c.metric))
         = (m.run, m.identity, m.suite, m.suite_digest, m.measure, m.edition);

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

-- The mean of scores, by their weights where they have any, and of their logarithms where it is geometric.
create macro mean_of(value, weight, geometric) as
    case when bool_or(weight is not null and geometric) then exp(sum(ln(value) * weight) / sum(weight))
         when bool_or(weight is not null) then sum(value * weight) / sum(weight) else favg(value) end;

create view checkpoint_scores as
    select c.run, c.checkpoint, c.iteration, c.digest, c.suite, c.suite_version, c."group", c.metric,
           c.judge, c.measure, mean_of(c.value, c.weight, c.geometric) as mean,
           case when bool_and(c.boolean) filter (where c.outcome = 'scored') then sum(c.value)::bigint end as correct,
           count(*) as asked,
           count(*) filter (where c.outcome = 'scored') as scored,
           count(*) filter (where c.outcome = 'failed') as failed,
           count(*) filter (where c.outcome = 'truncated') as truncated,
           case when c.digest = '' then null else coalesce(any_value(p.verdict), 'unproven') end as proof
    from cells c left join proofs p using (run, suite, digest, identity)
    group by c.run, c.checkpoint, c.iteration, c.digest, c.suite, c.suite_version, c."group", c.metric, c.judge, c.measure
    order by c.run, c.suite, c.iteration, min(c."index"), c.metric, c.judge, c.measure;

create view probe_results as
    select c.run, c.checkpoint, c.iteration, c.digest, c.suite, c."group", c.sample, c.metric, c.judge, c.outcome,
           c.value, a.prompt, a.text as response, a.finish_reason, c.detail, c.reason
    from cells c left join completions a on c.completion = a.key
    order by c.run, c.suite, c.iteration, c."index", c.metric, c.judge, c.measure;

-- What each file of a run held when its answers were last read. One that was moved is no more where it lay before.
create macro present_files() as table
    select run, left(digest, 16) as content from (
        select *, row_number() over (partition by run, case when path = '' then digest else path end order by seq desc) as last
        from (select *, row_number() over (partition by run, digest order by seq desc) as place from records where kind = 'file')
        where place = 1
    ) where last = 1;

-- The files of runs, and whether each was read to its end as it was when it was last read.
create macro files_read() as table
    select run, whole
    from present_files() join (select run, left(digest, 16) as content, bool_or(coalesce(whole, false)) as whole
                               from records where kind = 'file' group by all) using (run, content);

-- The answers that runs have read, each as it stands in its file now; `here` is false where it stands there no more.
create macro present_answers() as table
    select run, model, name, bool_or(here) as here, arg_max(answer, seq) filter (where here) as answer,
           arg_max(question, seq) filter (where here) as question, bool_or(numbered) filter (where here) as numbered,
           arg_max(beginning, seq) filter (where here) as beginning
    from (select run, model, answer_name(sample, repeat) as name, seq, coalesce(answer, '') as answer,
                 coalesce(question, '') as question, coalesce(numbered, false) as numbered, beginning,
                 coalesce(r.content, '') = '' or p.content is not null as here
          from records r left join present_files() p using (run, content) where kind = 'answer')
    group by run, model, name;

-- Answers from files, as each run last scored them by scorers that only read text: one row an answer and suite; `scores` is
-- JSON by metric, `failures` a JSON list of [suite, metric, class, reason].
create view answers as
    select seq, time, run, source, line, model, sample, repeat, suite, scores,
           to_json(list_filter(failures::json[], lambda f: f->>0 = suite)) as failures
    from (select *, row_number() over (
                  partition by run, model, answer_name(sample, repeat), suite order by seq desc, time desc) as place
          from (select seq, time, run, source, line, r.model, sample, coalesce(repeat, 0) as repeat,
                       unnest(json_keys(scores)) as suite,
                       unnest(json_extract(scores, '$.*')) as scores, failures
                from records r join present_answers() p using (run)
                where kind = 'answer' and p.model = r.model and p.name = answer_name(sample, repeat)
                      and p.here and p.answer = coalesce(r.answer, '')))
    where place = 1;

-- The same by metric, and judged scores beside them: one row an answer, suite, metric and judge. `value` is null without a score.
create view answer_cells as
    select run, source, line, model, sample, repeat, suite, metric, '' as scorer, '' as judge, '' as measure, 'scored' as outcome,
           case value when 'true' then 1.0 when 'false' then 0.0 else try_cast(value as double) end as value,
           value in ('true', 'false') as boolean, null as low, null as high, null as error_class, null as reason
    from (select run, source, line, model, sample, repeat, suite, unnest(json_keys(scores)) as metric,
                 unnest(json_extract_string(scores, '$.*')) as value from answers)
    where metric <> 'extracted'
    union all
    select run, source, line, model, sample, repeat, suite, f->>1, '', '', '',
           case when f->>2 = 'truncated' then 'truncated' else 'failed' end, null, null, null, null, f->>2, f->>3
    from (select run, source, line, model, sample, repeat, suite, unnest(failures::json[]) as f from answers)
    union all
    select c.run, null, c."index", case when c.digest = origin_of_none() then '' else c.checkpoint end, c.sample, c.repeat,
           c.suite, c.metric, case when c.measure = '' then '' else c.scorer end, c.judge, c.measure, c.outcome, c.value, c.boolean, c.low, c.high,
           c.error_class, c.reason
    from all_cells c anti join (from measures where not standing) m using (run, identity, suite, suite_digest, measure)
    left join present_answers() p on p.run = c.run and p.name = answer_name(c.sample, c.repeat)
        and p.model = case when c.digest = origin_of_none() then '' else c.checkpoint end
    where c.identity = from_files()
          and (p.name is null or (p.here and (coalesce(c.completion, '') in ('', p.answer))));

-- The bounds of each metric in a run's answers from files, whether scores state different ones (`varied`), and where its
-- column stands: `seq` is that of its first score.
create view scales as
    select run, model, suite, metric, min(low) as low, max(high) as high, coalesce(bool_or(varied), false) as varied,
           min(seq) as seq
    from records where kind = 'scale' group by run, model, suite, metric;

-- Each run's losses as its trainer last logged them: part is 'train' or 'val'.
create view losses as
    select * exclude (place) from (
        select seq, time, run, iteration, part, try_cast(value as double) as value, path,
               row_number() over (partition by run, iteration, part order by seq desc) as place
        from records where kind = 'loss'
    ) where place = 1 order by run, iteration, part;

-- Loss and capability on one axis: what each checkpoint came to, beside the last losses that were logged at or before it.
create view curves as
    select s.run, s.iteration, s.checkpoint, s.suite, s."group", s.metric, s.judge, s.mean, s.scored,
           (select arg_max(l.value, l.iteration) from losses l
            where l.run = s.run and l.part = 'train' and l.iteration <= s.iteration) as train_loss,
           (select arg_max(l.value, l.iteration) from losses l
            where l.run = s.run and l.part = 'val' and l.iteration <= s.iteration) as val_loss
    from checkpoint_scores s order by s.run, s.suite, s."group", s.metric, s.iteration;

-- What was tried at a checkpoint and came to nothing.
create view attempts as
    select seq, time, run, checkpoint, iteration, host, path, digest, error, reason, coalesce(final, false) as final
    from records where kind = 'attempt' order by seq;
