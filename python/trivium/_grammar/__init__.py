"""The parts of `trivium.grammar`, one idea a file; the public names are there.

| file | holds |
|---|---|
| `arguments` | checks of what callers pass |
| `report` | what a grammar guarantees, how far a text gets |
| `compiled` | a compiled grammar: its matchers, membership, report |
| `sources` | from patterns, rules, choices and schemas to grammars |
| `combination` | from grammars to grammars; phrases, triggers, spans |
| `mask` | `GrammarMask`, all of these |
| `checkers` | callables and monitors beside a grammar |
| `shadow` | keywords of a schema that are validated, not compiled |
| `template`, `cache` | grammars with holes; grammars by what they were made of |
| `matcher` | one sequence under a grammar |
| `why`, `stable`, `top`, `phrases` | refusals, forced tokens, PICARD, progress of a matcher |
| `batch` | masks of many sequences |
"""
