"""Running a program on an SSH host.

SSH has no argument vector: a server hands one string to the user's login shell, whichever that is, and what quotes mean
differs between shells. So that string is always the same, `exec sh`, and the command goes to the standard input of that `sh`,
each argument quoted by `shlex.quote`. POSIX fixes what `sh` makes of that: between single quotes every byte stands for itself
but the single quote, which `shlex.quote` puts outside of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shlex

import asyncssh

from assay.errors import HostFault, Unreachable
from assay.hosts.base import Ran
from assay.hosts.faults import late
from assay.hosts.running import read_bounded
from assay.hosts.ssh_connect import Session
from assay.hosts.ssh_link import Link, Pace

# Until the other machine has a shell ready, however busy it is; the program's own time counts from there.
_BEGIN_SECONDS = 60.0
_KILL_SECONDS = 10.0


class NoPrograms(HostFault):
    """The host runs nothing for this account."""


async def run_program(link: Link, name: str, words: tuple[str, ...], seconds: float) -> Ran:
    """Run a program on the host that `link` leads to, which messages call `name`; see `Host.run`.

    Raises `NoPrograms` where the account has no shell, or one that runs something else.
    """

    async def begin(session: Session, _: Pace) -> asyncssh.SSHClientProcess[bytes]:
        return await session.connection.create_process("exec sh", encoding=None)

    mark = secrets.token_hex(16)
    pid: int | None = None
    try:
        process = await link.call(begin)
    except asyncssh.ChannelOpenError as error:
        raise NoPrograms(f"{name} runs no programs for this account: {error}") from None
    try:
        async with asyncio.timeout(_BEGIN_SECONDS) as limit:
            process.stdin.write(_script(mark, words))
            process.stdin.write_eof()
            pid = await _begun(process, mark)
            if pid is not None:
                limit.reschedule(asyncio.get_running_loop().time() + seconds)
                printed = await asyncio.gather(read_bounded(process.stdout), read_bounded(process.stderr))
            await process.wait_closed()
    except TimeoutError:
        await _kill(link, process, pid)
        raise late(name, words[0], seconds if pid else _BEGIN_SECONDS) from None
    except (asyncssh.Error, OSError):
        raise Unreachable(f"the connection to {name} dropped while {words[0]} ran there") from None
    except asyncio.CancelledError:
        process.kill()
        raise
    finally:
        process.close()
    if process.returncode is None:
        raise Unreachable(f"the connection to {name} dropped while {words[0]} ran there")
    if pid is None:
        raise NoPrograms(f"{name} runs no programs for this account")
    (output, output_cut), (errors, errors_cut) = printed
    return Ran(process.returncode, output, errors, output_cut or errors_cut)


def _script(mark: str, words: tuple[str, ...]) -> bytes:
    return f"echo {mark} $$\nexec {shlex.join(words)} </dev/null\n".encode("utf-8", "surrogateescape")


async def _begun(process: asyncssh.SSHClientProcess[bytes], mark: str) -> int | None:
    """The process's number, once `sh` has begun; None if it never does. What login scripts print before is passed over."""
    while line := await process.stdout.readline():
        _, found, number = line.partition(mark.encode())
        if found:
            return int(number)
    return None


async def _kill(link: Link, process: asyncssh.SSHClientProcess[bytes], pid: int | None) -> None:
    """Kill the program and what it started. A server may refuse signals (OpenSSH's does to root), so another `sh` sends it."""
    process.kill()
    if pid is None:
        return

    async def work(session: Session, _: Pace) -> None:
        script = f"kill -KILL -{pid} {pid}\n".encode()
        await session.connection.run("exec sh", input=script, encoding=None, timeout=_KILL_SECONDS)

    with contextlib.suppress(asyncssh.Error, OSError, Unreachable):
        await link.call(work)
