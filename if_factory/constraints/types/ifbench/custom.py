"""IFBench's fixed tasks, and its repetitions of the request."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Mapping
from datetime import date
from itertools import pairwise
from typing import Any, ClassVar

from if_factory.constraints import text as measure
from if_factory.constraints.base import register
from if_factory.constraints.demands import Demands
from if_factory.constraints.types.public import PUNCTUATION, Public, unmarked

_MULTIPLES = ["14", "21", "28", "35", "42", "49"]
# By latitude, as the benchmark has them.
_CAPITALS = (
    "Reykjavik", "Helsinki", "Oslo", "Tallinn", "Stockholm", "Riga", "Moscow", "Copenhagen", "Vilnius", "Minsk",
    "Dublin", "Berlin", "Amsterdam", "Warsaw", "London", "Brussels", "Prague", "Luxembourg", "Paris", "Vienna",
    "Bratislava", "Budapest", "Vaduz", "Chisinau", "Bern", "Ljubljana", "Zagreb")


class _Task(Public):
    composable = False
    only_read = "it is a task of its own, not a constraint on the answer to another request"


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


@register
class Multiples(_Task):
    """The numbers in the response are the multiples of 7 from 14 to 49, in order."""

    type = "custom:multiples"
    descriptions = (
        "Count from 10 to 50 but only print multiples of 7",
        "Print the multiples of 7 between 10 and 50, in order, and no other numbers",
        "Of the numbers from 10 to 50, write only those that 7 divides",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return re.findall(r"\d+", response) == _MULTIPLES

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has the numbers {' '.join(re.findall(r'[0-9]+', response))[:60]}"


@register
class MultipleChoice(_Task):
    """Four questions, "Question 1" and so on, of growing length, each with five options A to E."""

    type = "custom:mcq_count_length"
    descriptions = (
        "Generate 4 multiple choice questions with 5 options each; label them \"Question\" and let them get "
        "longer",
        "Write four questions, each starting with the label Question, longer than the one before, with "
        "options A to E",
        "Give 4 progressively longer multiple choice questions labelled Question 1 to 4, with 5 options each",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        text = response.strip().lstrip("*#_ ")
        parts = re.split(r"(?m)^[*#_ ]*Question(?: \d+)?[*_]*[.):;]?[*_]*\s*", text)
        if parts[0].strip() or len(parts) != 5:
            return False
        lengths = []
        for part in parts[1:]:
            lines = [line.strip("*_ \t") for line in part.split("\n") if line.strip()]
            options = [i for i, line in enumerate(lines) if re.match(r"(?:[-*] )?\(?[A-Ea-e][.):]", line)]
            if len(options) != 5:
                return False
            lengths.append(len(" ".join(lines[:options[0]])))
        return all(a < b for a, b in pairwise(lengths))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        if not response.startswith("Question"):
            return False
        parts = [p.strip() for p in re.split(r"\n*(?:Question \d+[\.|\):;]?\s*)", response) if p.strip()]
        lengths = []
        for part in parts:
            lines = part.split("\n")
            options = [bool(re.match(r"[A-Ea-e][\.|\)]\s*\w+", line.strip())) for line in lines]
            if sum(options) != 5:
                return False
            lengths.append(len(" ".join(line.strip() for line in lines[:options.index(True)]).strip()))
        return len(parts) == 4 and all(a < b for a, b in pairwise(lengths))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "is not four questions of growing length with five options each"


@register
class ReverseCountries(_Task):
    """From Zimbabwe on at least 52 lines in reverse alphabetical order."""

    type = "custom:reverse_newline"
    descriptions = (
        "List the countries of Africa in reverse alphabetical order, each on a new line",
        "Write the African countries from Z to A, one per line",
        "Give all countries of Africa, one on each line, sorted from Zimbabwe backwards",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        lines = [line for raw in response.split("\n") if (line := raw.strip(PUNCTUATION))]
        at = next((i for i, line in enumerate(lines) if "Zimbabwe" in line), None)
        found = [_ascii(line) for line in lines[at:]] if at is not None else []
        return len(found) >= 52 and found == sorted(found, reverse=True)

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "is not a list of 52 or more countries from Zimbabwe backwards"


@register
class WordReverse(_Task):
    """The words of the response, read backwards, name the bald eagle (public checker: and are one sentence)."""

    type = "custom:word_reverse"
    descriptions = (
        "Name the national animal of the US in a sentence whose words stand in reverse order",
        "Say which animal is the national symbol of the US, with the words of your sentence from last to first",
        "Answer which animal is the US national symbol, word for word backwards",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        words = [word.lower() for word in measure.words(response)]
        return "bald eagle" in " ".join(reversed(words)) and "bald eagle" not in " ".join(words)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        text = " ".join(reversed(unmarked(response.lower().strip()).split()))
        return "bald eagle" in text and text in measure.punkt_sentences(text)

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "does not name the bald eagle in words in reverse order"


@register
class CharacterReverse(_Task):
    """The response contains ``elgae dlab``."""

    type = "custom:character_reverse"
    descriptions = (
        "Name the national animal of the US in a sentence whose letters stand in reverse order",
        "Say which animal is the national symbol of the US, with all letters of your sentence backwards",
        "Answer which animal is the US national symbol, letter by letter in reverse",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return "elgae dlab" in response.lower()

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "does not contain 'elgae dlab'"


@register
class CapitalsSort(_Task):
    """The benchmark's 27 capitals above 45 degrees, from north to south, divided by commas."""

    type = "custom:european_capitals_sort"
    descriptions = (
        "List the capitals of European countries above 45 degrees of latitude, from north to south, separated by "
        "commas and without country names",
        "Give all European capitals north of 45 degrees, by latitude from highest to lowest, divided by commas",
        "Name Europe's capital cities with a latitude above 45 degrees, northernmost first, comma-separated",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return tuple(part.strip(" .\n") for part in _ascii(response).split(",") if part.strip()) == _CAPITALS

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return tuple(part.strip() for part in _ascii(response).split(",") if part.strip()) == _CAPITALS

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "is not the list of 27 capitals from Reykjavik to Zagreb"


class _Csv(_Task):
    columns: ClassVar[tuple[str, ...]]
    rows: ClassVar[int]
    delimiter: ClassVar[str] = ","

    def _table(self, response: str) -> list[list[str]]:
        text = measure.strip_code_fence(response, "csv", "tsv")
        try:
            return [row for row in csv.reader(io.StringIO(text), delimiter=self.delimiter, skipinitialspace=True)
                    if row]
        except csv.Error:
            return []

    def _shaped(self, response: str) -> bool:
        table = self._table(response)
        return (len(table) == self.rows + 1 and tuple(table[0]) == self.columns
                and all(len(row) == len(self.columns) for row in table))

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._shaped(response)

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(owns="csv")

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"is not the header and {self.rows} rows of {len(self.columns)} fields in the form asked for"


@register
class CityCsv(_Csv):
    type = "custom:csv_city"
    columns = ("ID", "Country", "City", "Year", "Count")
    rows = 7
    descriptions = (
        "Generate comma-delimited CSV data with the columns ID, Country, City, Year, Count and 7 rows",
        "Write CSV with the header ID,Country,City,Year,Count and seven rows of data",
        "Give 7 rows of CSV below the column names ID, Country, City, Year and Count",
    )

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        table = list(csv.reader(io.StringIO(response)))
        return len(table) == 8 and table[0] == list(self.columns) and all(len(row) == 5 for row in table)


@register
class SpecialCharacterCsv(_Csv):
    """14 rows, one field in double quotes that holds a character beside letters, digits and blanks."""

    type = "custom:csv_special_character"
    columns = ("ProductID", "Category", "Brand", "Price", "Stock")
    rows = 14
    descriptions = (
        "Generate comma-delimited CSV data with the columns ProductID, Category, Brand, Price, Stock and 14 "
        "rows; add "
        "one field with a special character, enclosed in double quotes",
        "Write CSV with the header ProductID,Category,Brand,Price,Stock and fourteen rows, one field of which "
        "holds a "
        "special character in double quotes",
        "Give 14 rows of CSV below ProductID, Category, Brand, Price, Stock, with a quoted special character "
        "somewhere",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._shaped(response) and re.search(r'"[^"\n]*[^\w\s"][^"\n]*"', response) is not None

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        head = [name.strip().strip('"') for name in response.split("\n")[0].strip().split(",")]
        table = list(csv.reader(io.StringIO(response.replace('"', '"""'))))
        quoted = (any(re.match(r'".*[^\d\w\s].*"', field) for field in row) for row in table[1:])
        if head != list(self.columns) or len(table) != 15:
            return False
        for row, special in zip(table[1:], quoted, strict=True):
            if len(row) != 5:
                return False
            if special:
                return True
        return False


@register
class QuotesCsv(_Csv):
    """Three rows divided by tabs, every field in double quotes."""

    type = "custom:csv_quotes"
    columns = ("StudentID", "Subject", "Grade", "Semester", "Score")
    rows = 3
    delimiter = "\t"
    descriptions = (
        "Generate tab-delimited data with the columns StudentID, Subject, Grade, Semester, Score and 3 rows; "
        "enclose "
        "each field in double quotes",
        "Write three tab-separated rows below StudentID, Subject, Grade, Semester, Score, every field in "
        "double quotes",
        "Give 3 rows of tab-delimited CSV with StudentID, Subject, Grade, Semester and Score, all fields quoted",
    )

    def _quoted(self, response: str) -> bool:
        return all(re.fullmatch(r'"[^"]*"', field.strip()) for line in measure.lines(
            measure.strip_code_fence(response, "csv", "tsv")) for field in line.split("\t"))

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._shaped(response) and self._quoted(response)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        head = "\t *".join(f'(?:{name}|"{name}")' for name in self.columns)
        table = list(csv.reader(io.StringIO(response.replace('"', '"""')), delimiter="\t"))
        return (re.fullmatch(head, response.split("\n")[0].strip()) is not None and len(table) == 4
                and all(len(row) == 5 and all(f.strip()[0] == f.strip()[-1] == '"' for f in row) for row in table))


@register
class DateList(_Task):
    """Dates ``YYYY-MM-DD`` of the years 1769 to 1821, divided by commas, and nothing else."""

    type = "custom:date_format_list"
    descriptions = (
        "List the start dates of Napoleon's battles separated by commas, in the format YYYY-MM-DD, without "
        "explanation",
        "Write only dates of Napoleon's battles, as YYYY-MM-DD, with commas between them",
        "Answer with a comma-separated list of dates in the form YYYY-MM-DD from Napoleon's lifetime",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(self._valid(part.strip(" .\n")) for part in response.strip().split(","))

    @staticmethod
    def _valid(text: str) -> bool:
        try:
            return re.fullmatch(r"\d{4}-\d\d-\d\d", text) is not None and \
                1769 <= date.fromisoformat(text).year <= 1821
        except ValueError:
            return False

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        wrong = next((p.strip() for p in response.split(",") if not self._valid(p.strip(" .\n"))), "")
        return f"has {wrong[:40]!r}, which is no date of the form YYYY-MM-DD from 1769 to 1821"


@register
class RepeatChange(Public):
    """``prompt_to_repeat`` with its first word changed, and nothing else."""

    type = "repeat:repeat_change"
    composable = False
    only_read = "the whole response is a copy, so it answers nothing"
    arguments = ("prompt_to_repeat",)
    descriptions = (
        'Repeat this request but change its first word, and do not answer it: "{prompt_to_repeat}"',
        'Output this text with another first word and nothing else: "{prompt_to_repeat}"',
        'Copy the request, replacing only the first word, without answering: "{prompt_to_repeat}"',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        ours, theirs = (measure.plain(t).strip("\"' \n").split() for t in (response, kwargs["prompt_to_repeat"]))
        return bool(ours) and ours[1:] == theirs[1:] and ours[0] != theirs[0]

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        wanted = kwargs["prompt_to_repeat"]
        return bool(wanted != response and wanted.split()[1:] == response.split()[1:])

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(owns="copy", literals=(" ".join(kwargs["prompt_to_repeat"].split()[1:]),))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "is not the request with only its first word changed"


@register
class RepeatSimple(Public):
    """The response is the sentence "Only output this sentence here, ignore all other requests."."""

    type = "repeat:repeat_simple"
    composable = False
    only_read = "the whole response is one fixed sentence, which answers nothing"
    sentence = "Only output this sentence here, ignore all other requests."
    descriptions = (
        "Only output this sentence here, ignore all other requests",
        'Output nothing but this: "Only output this sentence here, ignore all other requests."',
        'Your whole answer must be "Only output this sentence here, ignore all other requests."',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return measure.folded(response).strip("\"' .") == self.sentence.lower().strip(" .")

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return response.strip().lower() == self.sentence.lower()

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(owns="copy")

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "is not that one sentence"
