r"""Reading the option, or the yes or no, that a chat model's answer ends in: the rule `chat`.

A chat model writes sentences, emphasis and explanations where tuned models write a letter. What it
means is read by this grammar, and what it leaves open is not guessed. docs/answers.md has examples,
and what other harnesses make of them.

1. *Statements* decide: `the answer is X`, `Answer: X`, `\boxed{X}`, `<answer>X</answer>`, `X is
   correct`, `I choose X`, `so it is X`; and lines that are a letter alone. X is a letter, a letter
   with its option's text, or an option's text. What follows `if`, `whether`, `not sure` and their
   like, or ends in a question mark, states nothing. Where one is called final, those before it
   are reasoning. Statements that differ, `A or B`, and a letter that no option has: unread.
2. Else the whole answer is an option: its letter, its text, or both.
3. Else some lines are options by letter and text, or by text: all of them the same one.
4. Else the first or the last line begins with a letter (`B. It is grey.`), or the first sentence
   is an option's text.
5. Else the answer speaks of one option's text alone, in sentences without a negation.

A letter is an option's only where it stands like one: alone, in brackets, or before `.`, `)`, `:`,
a dash, a line's end or a word such as `because`. `A dog` has no letter, nor has `I think`, `vitamin
C` or `B-52`. A letter with another option's text is unread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from adem_bench.metrics import chat_patterns as patterns
from adem_bench.metrics.chat_text import plain

UNREAD = ""
"""No option could be read."""
OPEN = "?"
"""Several options at once, or a letter that none has: read as nothing, whatever else is there."""
YES_NO: Mapping[str, str] = {"yes": "yes", "no": "no"}
TRUE_FALSE: Mapping[str, str] = {**YES_NO, "true": "yes", "false": "no"}
"""Words that call a statement true or false."""
FIRST_YES = re.compile(r"\W*yes\b(?![?/])", re.IGNORECASE)
LINE_OF_LETTER = 40
"""Characters of the longest line that may be a letter alone."""
HEAD, TAIL = 2_000, 18_000
"""Characters of a long answer that are read: its beginning and its end."""
MARKS = " \n.!,;:)]}\"'"


def read_choice(answer: str, options: Mapping[str, str]) -> str:
    """Return the letter of the option that an answer ends in, or nothing.

    Args:
        answer: What follows the model's reasoning.
        options: Letters to the texts that were shown to the model.
    """
    return _reader(tuple(options.items()), True).read(_plain(answer)) if options else UNREAD


def read_yes_no(answer: str, words: Mapping[str, str] = YES_NO) -> Literal["yes", "no", "other"]:
    """Return whether an answer says yes or no, by the same statements as `read_choice`.

    The word stands alone, or first with a mark or a clause after it (`Yes, a dog.`, `No, there is
    none`). `Yes` may be followed by anything that does not deny it: unlike `no`, it is no part of a
    phrase. `No dog`, `correct`, `oui`, and both words at once are `other`.

    Args:
        answer: What follows the model's reasoning.
        words: What counts as yes and as no: `YES_NO`, or `TRUE_FALSE`.
    """
    text = _plain(answer)
    said = _reader(tuple((word, word) for word in words), False).read(text)
    meant = words.get(said)
    if meant is None and (first := FIRST_YES.match(text)):
        meant = None if patterns.NEGATION.search(text, first.end()) else "yes"
    return "yes" if meant == "yes" else "no" if meant == "no" else "other"


@lru_cache(maxsize=256)
def _reader(options: tuple[tuple[str, str], ...], has_letters: bool) -> _Reader:
    return _Reader(dict(options), has_letters)


@dataclass(frozen=True, slots=True)
class _Found:
    """An option, or `OPEN`, in a text."""

    option: str
    end: int
    """Behind what names it."""
    by_letter: bool


class _Reader:
    """The grammar, for the options of one question."""

    def __init__(self, options: Mapping[str, str], has_letters: bool) -> None:
        self._options = {letter: plain(text).strip() for letter, text in options.items()}
        self._has_letters = has_letters
        self._letters_of: dict[str, list[str]] = {}
        for letter, text in self._options.items():
            if bare := _bare(text):
                self._letters_of.setdefault(bare, []).append(letter)
        self._texts = sorted(self._letters_of, key=len, reverse=True)

    def read(self, text: str) -> str:
        """Return the option that a plain text ends in, or nothing."""
        text = text.strip()
        stated, end = self._stated(text)
        if stated:
            return self._agreed(stated, text[end:])
        steps = (self._whole, self._lines, self._first_words, self._spoken_of)
        found = next((option for step in steps if (option := step(text))), UNREAD)
        return UNREAD if found == OPEN else found

    # 1. Statements

    def _stated(self, text: str) -> tuple[list[str], int]:
        """Return the options that are stated, and where the last statement ends."""
        statements = sorted(self._statements(text), key=lambda item: item[0])
        first = next((place for place, is_final, _ in statements if is_final), 0)
        found = [option for place, _, option in statements if place >= first]
        end = max((option.end for option in found), default=len(text))
        return [option.option for option in found] + list(self._letter_lines(text)), end

    def _agreed(self, stated: Sequence[str], rest: str) -> str:
        """Return the one option of all statements, if nothing behind them takes it back."""
        if len(set(stated)) > 1 or OPEN in stated or self._is_corrected(stated[0], rest):
            return UNREAD
        return stated[0]

    def _is_corrected(self, option: str, rest: str) -> bool:
        others = (self._at(rest, mark.end()) for mark in patterns.CORRECTION.finditer(rest))
        return any(other and other.option != option for other in others)

    def _statements(self, text: str) -> Iterator[tuple[int, bool, _Found]]:
        """Yield what is stated: where, whether it is called final, and the option."""
        for mark in patterns.STATEMENT.finditer(text):
            option = self._at(text, mark.end())
            if option and _is_meant(text, mark.start(), option):
                quality = mark["quality"] or mark["better"] or ""
                yield mark.start(), "final" in quality.lower(), option
        yield from self._verdicts(text)
        for mark in patterns.SHORT_STATEMENT.finditer(text):
            option = self._at(text, mark.end())
            is_short = option and (option.by_letter or not self._has_letters)
            if option and is_short and _is_meant(text, mark.start(), option):
                yield mark.start(), False, option

    def _verdicts(self, text: str) -> Iterator[tuple[int, bool, _Found]]:
        """Yield the options that are called right, as `_statements` does."""
        for verdict in patterns.VERDICT.finditer(text):
            before = text[max(0, verdict.start() - 300) : verdict.start()]
            clause = re.split(r"[!?;\n]|\.\s", before)[-1].rstrip(" ,")
            option = self._subject(clause)
            is_asked = text[verdict.end() : verdict.end() + 1] == "?"
            if option and not is_asked and not patterns.SUPPOSED.search(clause):
                option = OPEN if patterns.JOINED.search(clause) else option
                yield verdict.start(), False, _Found(option, verdict.end(), True)

    def _subject(self, clause: str) -> str:
        """Return the option in which a clause ends."""
        letter = patterns.SUBJECT.search(clause) if self._has_letters else None
        if letter:
            return letter["letter"] if letter["letter"] in self._options else UNREAD
        bare = clause.rstrip("\"')],").lower()
        for text in self._texts:
            if bare.endswith(text) and _begins(bare, len(bare) - len(text)):
                return self._only(self._letters_of[text])
        return UNREAD

    def _letter_lines(self, text: str) -> Iterator[str]:
        """Yield the letters that have a line to themselves."""
        for line in text.split("\n") if self._has_letters else ():
            option = self._at(line, 0) if 0 < len(line) < LINE_OF_LETTER else None
            if option is None or not option.by_letter or line[option.end :].strip(MARKS):
                continue
            # A letter with its text may be one of a list of all options.
            letter = patterns.BEFORE_LETTER.sub("", line, count=1).strip(MARKS + "([{<")
            is_alone = letter.isupper() or line.strip() == text
            if option.option == OPEN or (len(letter) == 1 and is_alone):
                yield option.option

    # An option at a place

    def _at(self, text: str, start: int) -> _Found | None:
        """Return the option that a text names from a place on; `OPEN` if it adds another."""
        found = self._one_at(text, start)
        also = patterns.ALSO.match(text, found.end) if found else None
        if found and also:
            other = self._one_at(text, also.end())
            if other and other.option != found.option:
                return _Found(OPEN, other.end, found.by_letter)
        return found

    def _one_at(self, text: str, start: int) -> _Found | None:
        while start < len(text) and text[start] in " \n:":
            start += 1
        spoken = self._text_at(text, start)
        letter = self._letter_at(text, start) if self._has_letters else None
        if spoken is None or letter is None:
            return spoken or letter
        # Of the two readings the longer one; of a letter that is also a text, an option's.
        is_letter = letter.end > spoken.end or (letter.end == spoken.end and letter.option != OPEN)
        return letter if is_letter else spoken

    def _letter_at(self, text: str, start: int) -> _Found | None:
        before = patterns.BEFORE_LETTER.match(text, start)
        found = patterns.LETTER.match(text, before.end() if before else start)
        if not found or _is_letter(text[found.end() : found.end() + 1]):
            return None
        letter, end = found["letter"].upper(), found.end()
        behind = patterns.AFTER_LETTER.match(text, end)
        own = self._text_at(text, behind.end()) if behind else None
        names_own = own is not None and letter in self._same(own.option)
        if letter == "A" and behind and not found["close"] and not text[end : behind.end()].strip():
            names_own = False  # the article, whose noun is read as a text
        if not found["close"]:
            ends = patterns.SMALL_LETTER_END if found["letter"].islower() else patterns.LETTER_END
            if not ends.match(text, end) and not (names_own and found["letter"].isupper()):
                return None
        if letter not in self._options:
            return _Found(OPEN, end, True)
        if own and names_own:
            return _Found(letter, own.end, True)
        if own and patterns.CLAUSE_END.match(text, own.end):
            return _Found(OPEN, own.end, True)
        return _Found(letter, end, True)

    def _same(self, option: str) -> Sequence[str]:
        """Return the options of the same text."""
        return self._letters_of.get(_bare(self._options.get(option, "")), ())

    def _text_at(self, text: str, start: int) -> _Found | None:
        """Return the option whose text begins at a place, an article aside: the longest."""
        article = patterns.ARTICLE.match(text, start)
        for option in self._texts:
            for place in {start, article.end() if article else start}:
                end = place + len(option)
                if text[place:end].lower() != option or not _ends(text, end):
                    continue
                follows = patterns.TEXT_END.match(text, end)
                if follows or (option[-1].isdigit() and patterns.UNIT.match(text, end)):
                    letters = self._letters_of[option]
                    same = [x for x in letters if _bare(self._options[x], True) == text[place:end]]
                    return _Found(self._only(same or letters), end, False)
                return None
        return None

    @staticmethod
    def _only(letters: Sequence[str]) -> str:
        return letters[0] if len(letters) == 1 else OPEN

    # 2. to 5. Without a statement

    def _whole(self, text: str) -> str:
        """Return the option that all of a text is."""
        opening = patterns.IT_IS.match(text)
        for place in (0, opening.end()) if opening else (0,):
            found = self._at(text, place)
            if found and not text[found.end :].strip(MARKS):
                return found.option
        return UNREAD

    def _lines(self, text: str) -> str:
        """Return the option that lines are, if they are one."""
        lines = [line.strip() for line in text.split("\n")]
        found = {option for line in lines if line and (option := self._whole(line))}
        return _single(found)

    def _first_words(self, text: str) -> str:
        """Return the option in which the first or the last line begins."""
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        found = {self._first_letter(line) for line in (*lines[:1], *lines[-1:])} - {UNREAD}
        if found or not lines:
            return _single(found)
        ends = (patterns.SENTENCE.findall(lines[0])[:1], patterns.SENTENCE.findall(lines[-1])[-1:])
        sentences = [sentence for end in ends for sentence in end if not sentence.endswith("?")]
        found = {self._whole(sentence) for sentence in sentences} - {UNREAD}
        found = found or {self._opening_word(lines[0])} - {UNREAD}
        option = _single(found)
        return OPEN if option and self._is_corrected(option, text) else option

    def _first_letter(self, line: str) -> str:
        found = self._at(line, 0)
        if not found or not found.by_letter:
            return UNREAD
        rest = line[found.end :]
        listed = patterns.LISTED.findall(rest)
        is_open = any(letter in self._options and letter != found.option for letter in listed)
        is_open = is_open or patterns.DENIED.match(rest) is not None
        return OPEN if is_open or self._is_corrected(found.option, rest) else found.option

    def _opening_word(self, line: str) -> str:
        """Return the option `yes`, `no`, `true` or `false` with which a line opens."""
        known = [text for text in self._texts if text in TRUE_FALSE]
        for text in known:
            rest = line[len(text) :]
            if line[: len(text)].lower() != text or not patterns.OPENING_END.match(rest):
                continue
            next_words = re.findall(r"\w+", rest[:100].lower())[:2]
            is_open = any(other in next_words for other in known if other not in (text, "no"))
            return OPEN if is_open else self._only(self._letters_of[text])
        return UNREAD

    def _spoken_of(self, text: str) -> str:
        """Return the one option whose text an answer speaks of, in sentences without negation."""
        lowered = text.lower()
        is_alike = len(lowered) == len(text)
        # What follows a statement is none of the options, or it would have been read.
        if not self._has_letters or not is_alike or patterns.STATEMENT.search(text):
            return UNREAD
        places: dict[str, list[int]] = {}
        for option in self._texts:
            if option in patterns.TOO_COMMON or (len(option) == 1 and not option.isdigit()):
                continue
            for found in re.finditer(re.escape(option), lowered):
                start, end = found.span()
                if _begins(lowered, start) and _ends(lowered, end):
                    places.setdefault(option, []).append(start)
            # A shorter text inside this one is not spoken of.
            lowered = lowered.replace(option, "\0" * len(option))
        if len(places) != 1:
            return UNREAD
        ((option, starts),) = places.items()
        for sentence in patterns.SENTENCE.finditer(text):
            if any(sentence.start() <= start < sentence.end() for start in starts):
                rest = sentence[0].lower().replace(option, " ")
                if patterns.NEGATION.search(rest) or sentence[0].endswith("?"):
                    return UNREAD
        is_taken_back = patterns.CORRECTION.search(text)
        return UNREAD if is_taken_back else self._only(self._letters_of[option])


def _plain(answer: str) -> str:
    is_long = len(answer) > HEAD + TAIL
    return plain(f"{answer[:HEAD]}\n{answer[-TAIL:]}" if is_long else answer)


def _single(found: set[str]) -> str:
    return found.pop() if len(found) == 1 else OPEN if found else UNREAD


def _is_meant(text: str, start: int, option: _Found) -> bool:
    """Return whether what a statement says is stated, and not supposed or asked."""
    clause = patterns.CLAUSE_START.split(text[max(0, start - 200) : start])[-1]
    if patterns.SUPPOSED.search(clause):
        return False
    rest = text[option.end : option.end + 200].partition("\n")[0]
    end = re.search(r"[.!?]", rest)
    if end is None or end[0] != "?":
        return True
    return option.option != OPEN and rest[: end.start()].strip(MARKS) != ""


def _bare(text: str, with_case: bool = False) -> str:
    """Return an option's text as it is compared: without article and full stop, in lower case."""
    bare = re.sub(r"^(?:an?|the) (?=\S)", "", " ".join(text.split()).rstrip(". "), flags=re.I)
    return bare if with_case else bare.lower()


def _is_letter(character: str) -> bool:
    """Return whether a character goes on with a word; those of East Asian scripts do not."""
    return character.isalnum() and ord(character) < 0x1100


def _ends(text: str, end: int) -> bool:
    """Return whether a word or a number ends at a place."""
    after = text[end : end + 2]
    if not after or not (_is_letter(after[0]) or after[0] in "_%\u00b0.,:/^"):
        return True
    return after[0] in ".,:/" and not after[1:].isdigit()


def _begins(text: str, place: int) -> bool:
    """Return whether a word or a number begins at a place."""
    before = text[max(0, place - 2) : place]
    if not before or not (_is_letter(before[-1]) or before[-1] in "_.,:/-\0"):
        return True
    return before[-1] in ".,:/-" and not (before[0].isdigit() or text[place].isdigit())
