"""The parts of `trivium.grammar`, one idea a file; the public names are there.

| file | holds |
|---|---|
| `arguments` | checks of what callers pass |
| `report` | what a grammar guarantees, how far a text gets |
| `compiled` | a compiled grammar: its matchers, membership, report |
| `sources` | from patterns, rules, choices and schemas to grammars |
| `combination` | from grammars to grammars; phrases, triggers, spans |
| `mask` | `GrammarMask`, all of these |
| `matcher` | one sequence under a grammar |
| `batch` | masks of many sequences |
"""
