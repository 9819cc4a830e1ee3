#!/usr/bin/env bash
# NLTK: RegexpTokenizer(r"\w+") counts other words since 3.10, so word counts of IFEval's checkers depend on NLTK's version.
#
# A good guess: NLTK compiles the pattern with Python's `re`, and `\w+` gives the same number of words in every release.
# What happens: 3.10 compiles it with the package `regex`, whose \w takes in combining marks and variation selectors and
#   leaves out fractions. A Hindi, Bengali or Tamil word, 2 or 3 pieces before, is one word now; "½" is no word any more;
#   the invisible selector behind an emoji is a word of its own. "At least N words" in these languages is a harder
#   constraint under 3.10 than under 3.9, with one and the same benchmark code.
# Versions: nltk 3.9.2 against 3.10.4. Seen 2026-11-29. Source: nltk/tokenize/regexp.py, _check_regexp; nltk/redos.py.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
cat > "$tmp/count.py" <<'EOF'
import json
from nltk.tokenize import RegexpTokenizer

texts = ["नमस्ते दुनिया", "হিন্দি ভাষা", "தமிழ் மொழி", "½ cup", "I \u2764\ufe0f it", "don't stop", "Zoë a\u0301"]
print(json.dumps([len(RegexpTokenizer(r"\w+").tokenize(text)) for text in texts]))
EOF
for version in 3.9.2 3.10.4; do
  python3 -m venv "$tmp/$version"
  "$tmp/$version/bin/pip" install -q "nltk==$version"
  counts=$("$tmp/$version/bin/python" "$tmp/count.py")
  echo "nltk $version: words per text (Hindi, Bengali, Tamil, half a cup, heart, don't, accents): $counts"
  case $version in
    3.9.2) seen="[5, 5, 4, 2, 2, 3, 2]" ;;
    3.10.4) seen="[2, 2, 2, 1, 3, 3, 2]" ;;
  esac
  [ "$counts" = "$seen" ] || { echo "CHANGED: nltk $version gave $seen when this was written" >&2; exit 1; }
done
