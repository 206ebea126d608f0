"""Who may be called, and when: the campaign's own rules, those of the law, and lists of people who must not be.

Every rule is a pure function of values, and answers with a `Verdict`: whether, why, and from when on. All of them
together are a `RuleBook`, which the hopper asks before a call and people ask afterwards.
"""
