"""Stop strings and half characters: however the text is cut into pieces, the same comes out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assay.models.stopping import StopFinder, TokenDecoder


def run(pieces: list[str], stops: list[str]) -> tuple[str, bool, list[str]]:
    finder = StopFinder(stops)
    shown = [finder.push(piece) for piece in pieces]
    if not finder.hit:
        shown.append(finder.flush())
    return "".join(shown), finder.hit, shown


def test_parts_of_a_stop_string_are_held_back() -> None:
    text, hit, shown = run(["a<", "st", "op", ">b"], ["<stop>"])
    assert (text, hit) == ("a", True)
    assert shown[:3] == ["a", "", ""]
    assert run(["a<st", "ay"], ["<stop>"])[:2] == ("a<stay", False)
    assert run(["aab"], ["ab"])[:2] == ("a", True)
    assert run(["x", "yz"], [])[:2] == ("xyz", False)


def test_the_stop_that_is_complete_first_wins() -> None:
    assert run(["one two three"], ["three", "two"])[0] == "one "
    assert run(["xab"], ["b", "ab"])[0] == "x"
    finder = StopFinder(["END"])
    assert finder.push("yes END no") == "yes "
    assert (finder.push("more"), finder.flush()) == ("", "")


alphabet = st.text("ab.", max_size=12)


@given(st.lists(alphabet, max_size=6), st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3))
def test_pieces_make_no_difference(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    text, hit, _ = run(pieces, stops)
    assert (text, hit) == run([whole], stops)[:2] == run(list(whole), stops)[:2]
    assert hit == any(stop in whole for stop in stops)
    assert whole.startswith(text)
    assert not any(stop in text for stop in stops)


@given(st.text(max_size=12), st.lists(st.integers(1, 3), max_size=30))
def test_decoder_shows_only_whole_characters(text: str, cuts: list[int]) -> None:
    raw = text.encode("utf-8", "ignore")
    tokens, at = [], 0
    for cut in [*cuts, *[1] * len(raw)]:
        tokens.append(raw[at : at + cut])
        at += cut
    decoder = TokenDecoder(lambda ids: b"".join(tokens[i] for i in ids).decode("utf-8", "replace"))
    pieces = [decoder.push(i) for i in range(len(tokens))]
    assert "".join(pieces) + decoder.flush() == raw.decode()
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


def test_bytes_that_never_become_a_character() -> None:
    decoder = TokenDecoder(
        lambda ids: b"".join([b"ok", b"\xf0", b"\x9f"][i : i + 1][0] for i in ids).decode("utf-8", "replace")
    )
    assert [decoder.push(0), decoder.push(1), decoder.push(2), decoder.flush()] == ["ok", "", "", "\ufffd"]
