#!/usr/bin/env python3
"""Counts the lines of Rust of the product and of the laboratory: `scripts/lines.py [REVISION]`.

Every line counts, including comments and blank ones, except those of tests: items after `#[cfg(test)]`, files or
folders named `tests`, `test` or `benches`, and the protocol's feature `testing`, which only tests use. Product is what a deployment or a caller runs; the rest is for development.
"""
import re
import subprocess
import sys

REVISION = sys.argv[1] if len(sys.argv) > 1 else "HEAD"
PRODUCT = re.compile(r"(src|crates/(contract|protocol)|clients/(agent|rust))/")
TESTS = re.compile(r"(^|/)(tests?|benches)(/|\.rs$)|^crates/protocol/src/testing")


def git(*words):
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


def count(path):
    """Omits each item after `#[cfg(test)]`, up to its semicolon or its closing brace at the same indentation."""
    text = git("show", f"{REVISION}:{path}")
    item = r"^( *)#\[cfg\(test\)\]\n(?: *#\[.*\n)*(?:.*;\n|(?:.*\n)*?\1\}\n)"
    return len(re.sub(item, "", text, flags=re.M).splitlines())


totals = {"product": {}, "laboratory": {}}
for path in git("ls-tree", "-r", "--name-only", REVISION).splitlines():
    if path.endswith(".rs") and not TESTS.search(path):
        part = "src" if path.startswith("src/") else "/".join(path.split("/")[:2])
        parts = totals["product" if PRODUCT.match(path) else "laboratory"]
        parts[part] = parts.get(part, 0) + count(path)
for area, parts in totals.items():
    print(f"{area}: {sum(parts.values()):,} (" + ", ".join(f"{name} {n:,}" for name, n in sorted(parts.items())) + ")")
