"""Realistic answers to compare checkers on: those the package ships, those of the shared data, and ours by rules.

A rule rewrites an answer as constraints have models do (a postscript, bullets, a title, all capitals), so that
every type meets answers that satisfy it, nearly do, and do not.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "if_factory" / "data"

OTHER_LANGUAGES = (
    "Um den Fahrradreifen zu flicken, nimm zuerst den Schlauch heraus. Suche das Loch mit etwas Wasser, z. B. in "
    "einer Schüssel. Raue die Stelle auf, trage Kleber auf und drücke den Flicken fest an. Nach fünf Minuten kannst "
    "du den Reifen wieder aufpumpen.",
    "Pour préparer la pâte, mélangez la farine et les œufs, puis ajoutez le lait petit à petit. Laissez reposer une "
    "heure. L'important, c'est de bien chauffer la poêle avant la première crêpe !",
    "¿Cómo se cuida un cactus? Riégalo poco, una vez cada dos semanas, y déjalo cerca de una ventana. En invierno "
    "casi no necesita agua. ¡No lo riegues por la noche!",
    "煮米饭之前，先把米洗两遍。然后加水，水面大约高出米一厘米。大火煮开以后转小火，再煮十五分钟。最后关火焖十分钟，就可以吃了。",
    "部屋の空気を入れ替えるには、窓を二か所開けるのが効果的です。五分ほどで十分です。冬でも一日に三回は換気しましょう。",
    "Чтобы заварить чай, прогрейте чайник горячей водой. Положите две ложки чая и залейте кипятком. Подождите пять "
    "минут, и чай готов.",
    "चाय बनाने के लिए पहले पानी उबालें। फिर उसमें अदरक और चाय की पत्ती डालें। दो मिनट बाद दूध और चीनी मिलाएँ।",
    "Per fare un buon caffè con la moka, riempi la caldaia fino alla valvola. Metti il caffè senza pressarlo, e "
    "lascia salire a fuoco basso.",
    "O pão fica melhor quando a massa descansa. Misture a farinha, a água e o sal, espere uma hora e só depois leve "
    "ao forno.",
    "커피를 맛있게 내리려면 원두를 바로 갈아서 쓰세요. 물은 90도 정도가 좋습니다. 천천히 부어 주세요.",
    "لتحضير الشاي، اغلِ الماء أولاً. ثم أضف أوراق الشاي واتركها خمس دقائق. هل تفضل السكر؟",
    "การชงชาที่ดีต้องใช้น้ำร้อน ใส่ใบชาสองช้อน แล้วรอห้านาที",
)

OURS = (
    "Dr. Smith arrived at 9 a.m. and left at 5 p.m. He met J.K. Rowling in 1999. It was, e.g., a quiet day.",
    "Use `rows[0]` to read the first row, then print it:\n\n```python\n# a comment\nprint(rows[0])\n```\n\nThat's all.",
    "1. Open the window.\n2. Wait for ten minutes.\n3. Close it again, i.e. before it gets cold.\n\nDone!",
    "| Day | Task |\n|---|---|\n| Monday | shop |\n| Tuesday | cook |\n\nThe table shows two days.",
    "* * *\n\nFirst part.\n\n---\n\nSecond part, with *emphasis* and **bold text**.\n\n***\n\nThird part.",
    "- apples (3 kg)\n- flour, 500 g\n+ sugar\n- [ ] butter\n- [x] eggs",
    "See the notes [1] and the [guide](guide.md), then write to [name] at [address] before [date].",
    "“Don’t worry,” she said, “it’s well‑known that the U.S. imports 1,000 tons… of tea.” NASA and the EU agree.",
    "Wait... what?! I thought we'd meet at 3.30 p.m. Mr. O'Neil won't come; the CEO's car broke down on I-95.",
    "My answer is no. Anyone who says \"My answer is yes.\" has not read the question.",
    "<<A short title>>\n\nThe value is 1 << 3 and then x >> 2, so nothing is lost.",
    "Dear [Name],\n\nThank you for your letter of 3 May.\n\nYours sincerely,\n[Your name]\n\nP.S. Bring a coat.\n"
    "P.P.S. Or two.",
    "i woke up late. the bus was gone, so i walked. it took an hour and a half. was it worth it? yes.",
    "Section 1\nWhat to buy.\n\nSection 2\nWhat to cook.\n\nSECTION 3: what to leave out",
    "Try https://example.org/a.b?c=d and mail me at me@example.org. Version 2.0.1 is out, version 3 is not.",
    "café, naïve, ½ cup, 20 °C, 3–4 days, résumé; the temperature fell to -5 °C.",
    "A.\n\nB.\n\nC.",
    "OK.",
    "1234",
    "***",
)


def _upper(text: str) -> str:
    return text.upper()


def _words(text: str) -> list[str]:
    return text.split()


def _bulleted(text: str) -> str:
    return "\n".join(f"* {part.strip()}" for part in re.split(r"(?<=[.!?])\s+", text) if part.strip())


def _dashed(text: str) -> str:
    return "Here are the points:\n" + "\n".join(
        f"- {part.strip()}" for part in re.split(r"(?<=[.!?])\s+", text)[:6] if part.strip())


def _numbered(text: str) -> str:
    return "\n".join(f"{n}. {part.strip()}" for n, part in enumerate(re.split(r"(?<=[.!?])\s+", text), 1))


def _halves(text: str, divider: str) -> str:
    words = _words(text)
    middle = max(1, len(words) // 2)
    return " ".join(words[:middle]) + divider + " ".join(words[middle:])


def _placeholders(text: str) -> str:
    return " ".join(f"[{w.strip('.,')}]" if n % 9 == 4 else w for n, w in enumerate(_words(text)))


def _marked(text: str) -> str:
    return " ".join(f"*{w}*" if n % 11 == 5 else f"**{w}**" if n % 13 == 6 else w for n, w in enumerate(_words(text)))


def _shouted(text: str) -> str:
    return " ".join(w.upper() if n % 5 == 2 else w for n, w in enumerate(_words(text)))


RULES: tuple[Callable[[str], str], ...] = (
    _upper,
    str.lower,
    lambda t: f'"{t}"',
    lambda t: f"“{t}”",
    lambda t: f"{t}\n\nP.S. One more thing: take your time.",
    lambda t: f"{t}\n\np.s. one more thing",
    lambda t: f"<<{' '.join(_words(t)[:4])}>>\n\n{t}",
    lambda t: f"{t}\n\nIs there anything else I can help with?",
    lambda t: f'{t} "Any other questions?"',
    lambda t: f"{t} **Any other questions?**",
    lambda t: f"My answer is yes. {t}",
    _bulleted,
    _dashed,
    _numbered,
    lambda t: _halves(t, "\n\n***\n\n"),
    lambda t: _halves(t, "\n******\n"),
    lambda t: _halves(t, "\n\n"),
    lambda t: f"{t}\n******\n{t}",
    lambda t: "\n".join(f"Section {n}\n{part}" for n, part in enumerate(t.split("\n"), 1)),
    _placeholders,
    _marked,
    _shouted,
    lambda t: json.dumps({"answer": t}, ensure_ascii=False),
    lambda t: "```json\n" + json.dumps([t], ensure_ascii=False, indent=1) + "\n```",
    lambda t: t.replace(",", ""),
    lambda t: t.replace("'", "’").replace('"', "”"),
    lambda t: f"# Heading\n\n{t}\n\n## Another one\n\n{t}",
    lambda t: t.replace(". ", ".\n\n"),
    lambda t: f"```\n{t}\n```",
    lambda t: re.sub(r"[^\w\s]", "", t),
)


def _rows(path: Path) -> Iterator[dict[str, object]]:
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.strip())


def answers(most: int = 3000) -> list[tuple[str, str]]:
    """Pairs of prompt and answer, none twice: shipped ones, shared ones, then the rules over all of them."""
    found: dict[str, str] = {}
    for text in (*OURS, *OTHER_LANGUAGES):
        found[text] = "Tell me about it."
    for row in _rows(DATA / "usefulness_labels.jsonl"):
        found[str(row["response"])] = str(row["request"])
    for row in _rows(DATA / "pairs.jsonl"):
        found[str(row["response"])] = str(row["prompt"])
    for row in _rows(ROOT / "tests" / "constraints" / "reader_cases.jsonl"):
        found[str(row["answer"])] = "Answer as you are told."
    shared = Path(os.environ.get("IF_FACTORY_SHARED", str(ROOT.parent / "shared"))) / "data"
    for row in _rows(shared / "complex" / "checked_res_llama2.jsonl"):
        found[str(row["response"])] = str(row["prompt"])
    base = [(prompt, text) for text, prompt in found.items() if text.strip()]
    rng = Random(14)
    texts = {text for _, text in base}
    made: list[tuple[str, str]] = []
    own = [pair for pair in base if len(pair[1]) < 3000]
    while len(base) + len(made) < most:
        prompt, text = rng.choice(own)
        for rule in rng.sample(RULES, rng.choice((1, 1, 2))):
            text = rule(text)
        if text.strip() and text not in texts:
            texts.add(text)
            made.append((prompt, text))
    return (base + made)[:most]
