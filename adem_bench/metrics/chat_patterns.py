"""Words with which chat models state, suppose and take back answers: patterns of chat_answers.py.

All of them are met once from front to back: none goes over a text again and again.
"""

from __future__ import annotations

import re

BECAUSE = (
    "because|since|as|which|that|based|given|due|so|considering|according|where|with|in|for|from"
)
CAPITALIZED = "The|This|That|It|In|Because|Since|As|Based|Explanation|Reason|Reasoning|There|Here"

LETTER = re.compile(r"[(\[{<\"']*\s?(?P<letter>[A-Za-z])(?P<close>(?:\s?[)\]}>\"']+)?)")
"""A letter, in brackets or quotes if it has some."""
LETTER_END = re.compile(
    rf"\s*(?:$|\n)|\.(?![\w.]|\s?[A-Z]\.)|[:;!](?!\w)|,(?=\s|$)|\s+[-\u2013\u2014]+\s|[\u2013\u2014]|\s*[(\[/&]"
    rf"|\s+(?:and|or|{BECAUSE})\b|\s+(?:{CAPITALIZED})\b|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
)
"""What follows the letter of an option that no bracket closes."""
SMALL_LETTER_END = re.compile(r"[.!:,;]?\s*(?:$|\n)")
"""What follows one in lower case."""
BEFORE_LETTER = re.compile(
    r"[\s\"'(\[{]*(?:(?:the|an?)\s+)?(?:(?:correct|right|best)\s+)?"
    r"(?:option|choice|letter|answer|\u9009\u9879|opci\u00f3n|opzione|op\u00e7\u00e3o)\s*[#:]?\s*"
    r"(?=[(\[{\"'<]*\s?[A-Za-z](?![A-Za-z]))",
    re.IGNORECASE,
)
"""What may come before the letter: `option`, `the letter`."""
AFTER_LETTER = re.compile(r"\s*[.:;,)\]\u2013\u2014(\[\"'-]*\s*")
"""Marks between a letter and its option's text."""
TEXT_END = re.compile(rf"\s*(?:$|[.,;:!)\]}}\"'\n?\u2013\u2014(/&]|-\s|(?:{BECAUSE}|and|or|is)\b)")
"""What follows an option's text."""
UNIT = re.compile(r"(?:\s+[A-Za-z]+){1,2}\s*(?:$|[.,;:!\n])")
"""What may follow a number."""
CLAUSE_END = re.compile(r"[\s)\]\"']*(?:$|[.,;:!\n])")
ARTICLE = re.compile(r"[\s\"'(\[]*(?:(?:an?|the)\s+)?[\"']?", re.IGNORECASE)
ALSO = re.compile(
    r"\s*(?:,\s*(?:and|or)\b|,|/|&|\+|\band/or\b|\band\b|\bor\b|\u548c|\u6216)"
    r"(?:\s*\b(?:maybe|perhaps|possibly|even|also|else|both|either)\b)*\s*|\s*(?=\([A-Z]\))"
)
"""What joins one option to another."""
LISTED = re.compile(r"(?<!\w)\(?([A-Z])(?:\)|:)\s+\w")
"""The letter of an option in a list of several on one line."""

SURELY = (
    r"(?:\s*(?:,|most|likely|probably|clearly|definitely|therefore|thus|hence|actually|simply|"
    r"indeed|obviously|certainly))*\s*:?"
)
IS = (
    r"(?:\s*(?:[\"']?\s*[:=]|-\s|->|\u2192|\u2013|\u2014)|(?:'s|\s+(?:is|was|would be|will be|"
    rf"should be|must be|has to be|seems to be|appears to be|ought to be|be|remains)\b){SURELY})"
)
QUALITY = (
    r"(?:(?:final|correct|right|best|proper|appropriate|suitable|accurate|true|only|my|our|your|"
    r"most|likely|probable)\s+)"
)
TO_WHAT = r"(?:\s+(?:to|for|of)\s+(?:the|this|your|that)\s+(?:\w+\s+){0,3}\w+)?"
STATEMENT = re.compile(
    # The answer is X; Answer: X; the correct option is X; Option: X.
    rf"\b(?P<quality>{QUALITY}*)(?<!incorrect )(?<!wrong )(?<!false )(?:answer|ans)\b\.?"
    rf"{TO_WHAT}{IS}"
    rf"|\b(?P<better>{QUALITY}+)(?:option|choice|selection|response|letter|one|guess|pick)\b"
    rf"{TO_WHAT}{IS}"
    r"|^(?:option|choice|selection|response)\s*[:=]"
    # I choose X; let's go with X.
    r"|\b(?:i|we)(?:'d|'ll|\s+would|\s+will|\s+have\s+to|\s+must)?\s+(?:choose|pick|select|say|"
    r"opt\s+for|go\s+with|vote\s+for|answer)(?:\s+with)?\b:?"
    r"|\b(?:i|we)(?:'m|'re|\s+am|\s+are)\s+(?:choosing|picking|selecting|going\s+with)\b:?"
    r"|\blet(?:'s|\s+us)\s+(?:choose|pick|select|say|go\s+with)\b"
    # Other languages' words for the answer.
    r"|(?:\u7b54\u6848|\u6b63\u786e\u9009\u9879)\s*(?:\u5e94\u8be5|\u5e94)?\s*(?:\u662f|\u4e3a|:)+"
    r"|(?:\u6545|\u5e94|\u6240\u4ee5|\u56e0\u6b64)?\u9009(?:\u62e9)?:?(?=\s*[(\[]?[A-Z])"
    r"|\b(?:respuesta|risposta|resposta)(?:\s+\w+){0,2}\s*(?::|\s(?:es|\u00e8|\u00e9)\b):?"
    r"|\br\u00e9ponse(?:\s+\w+){0,2}\s*(?::|\sest\b):?"
    r"|\bantwort(?:\s+\w+){0,2}\s*(?::|\s(?:ist|lautet)\b):?"
    r"|\b\u043e\u0442\u0432\u0435\u0442\s*[:\u2013\u2014-]"
    r"|(?:\uc815\ub2f5|\ub2f5)\s*(?:\uc740|:)|(?:\u7b54\u3048|\u6b63\u89e3)\s*(?:\u306f|:)",
    re.IGNORECASE | re.MULTILINE,
)
"""What an answer follows."""
SHORT_STATEMENT = re.compile(
    r"\b(?:so|thus|therefore|hence)\b[,:]?"
    r"|\b(?:it|that)(?:'s|\s+is|\s+must\s+be|\s+should\s+be|\s+would\s+be|\s+has\s+to\s+be)"
    rf"{SURELY}|\bmakes\s+it\b|\bleaves(?:\s+us)?(?:\s+with)?\b|\b(?:go\s+with|choose|select)\b",
    re.IGNORECASE,
)
"""What a letter, or yes or no, follows that is an answer; anything else may follow too."""
VERDICT = re.compile(
    r"\b(?:is|must\s+be|would\s+be|should\s+be|has\s+to\s+be|seems|appears)"
    r"(?:\s+(?:therefore|thus|clearly|indeed|definitely|actually|probably|likely|most\s+likely))?"
    r"\s+(?:(?:the|our|my)\s+)?(?:"
    r"(?:only\s+|most\s+|one\s+)?(?:correct|right|best|appropriate|suitable|accurate|likely)"
    r"(?:\s+(?:one|answer|option|choice|statement|response)\b"
    r"|(?=\s*(?:$|[.,;:!\n]|(?:because|since|too|as)\b))|(?<=correct)(?=\s+(?:and|but|here)\b))"
    r"|(?:final\s+)?answer\b)"
    r"(?![^.!?\n]{0,300}\b(?:if|had|were|when|unless)\b)",
    re.IGNORECASE,
)
"""What follows an option that is called right."""
DENIED = re.compile(
    r"(?:(?:\s*,|\s+and|\s+or|\s+nor)+\s+\(?[A-Z]\)?)*"
    r"\s+(?:is|are|was|were|can|could|looks?|seems?)(?:\s+(?:not|clearly|also|both)\b|n't\b|not\b)*"
    r"\s+(?:not|wrong|incorrect|false|out|ruled\s+out|excluded|eliminated|impossible)\b"
    r"|\s+(?:is|are|was|were|can|could)(?:n't|\s+not|not)\b",
    re.IGNORECASE,
)
"""What follows a letter, or a list of them, that an answer rules out."""
SUBJECT = re.compile(r"(?:^|[\s\"'(\[,:])[(\[\"']*(?P<letter>[A-Z])[)\]\"']*$")
"""The letter in which what comes before a verdict ends."""
JOINED = re.compile(r"\b(?:and|or|nor|both)\s+(?:option\s+)?\S+$", re.IGNORECASE)
SUPPOSED = re.compile(
    r"\b(?:if|whether|suppose|supposing|assume|assuming|unless|doubt|never)\b(?![^\n]*,)"
    r"|(?:\bnot|n't)\s+(?:be\s+)?(?:sure|certain|clear|that|say|saying|think|believe|mean)\b",
    re.IGNORECASE,
)
"""What makes no statement of what follows it in a clause."""
CLAUSE_START = re.compile(r"[.!?;\n]")
NEGATION = re.compile(
    r"\b(?:not|no|none|never|neither|nor|cannot|without|except|instead|rather|unlike|or|either)\b"
    r"|n't\b",
    re.IGNORECASE,
)
CORRECTION = re.compile(
    r"\b(?:wait|actually|correction|sorry|hold\s+on|scratch\s+that|on\s+second\s+thought|hm+|oops|"
    r"i\s+mean|or\s+rather|my\s+mistake|no)\b[,.!:\u2013\u2014\s-]",
    re.IGNORECASE,
)
"""What takes an answer back, if another one follows."""
IT_IS = re.compile(
    r"\s*(?:so,?\s+|therefore,?\s+|i\s+(?:think|believe|guess|see)\s+(?:that\s+)?)*"
    r"(?:(?:it|this|that|these|those|they|he|she|there)(?:'s|'re|\s+(?:is|are|was|were|looks\s+like|"
    r"appears\s+to\s+be|seems\s+to\s+be|must\s+be|would\s+be))"
    r"|(?:the|this)\s+(?:image|picture|photo|figure|diagram|map)\s+(?:shows?|depicts?|contains?)"
    r"|i\s+(?:think|believe|guess|see))\s+",
    re.IGNORECASE,
)
"""How a sentence begins that says no more than an option's text."""
OPENING_END = re.compile(
    r"[,;:!.]\s|\s*[\u2013\u2014-]+\s|\s+(?:there|it|this|that|these|those|they|he|she|i|we|you)\b",
    re.IGNORECASE,
)
"""What follows `yes` or `no` where it answers; in `no dog` it does not."""
SENTENCE = re.compile(r"[^.!?\n]+(?:\.(?=\w)[^.!?\n]*)*[.!?]*")
ARTICLES = ("a", "an", "the")
PRONOUNS = ("i", "it", "its", "this", "that", "he", "she", "they", "we", "you", "one", "other")
VERBS = ("is", "are", "was", "were", "be", "do", "does", "has", "have")
PREPOSITIONS = ("in", "on", "at", "of", "to", "by", "for", "from", "with", "as")
OTHERS = ("and", "or", "not", "all", "none", "both", "yes", "no", "true", "false")
TOO_COMMON = frozenset((*ARTICLES, *PRONOUNS, *VERBS, *PREPOSITIONS, *OTHERS))
"""Texts of options that prose has by accident."""
