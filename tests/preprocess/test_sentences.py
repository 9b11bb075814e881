"""The rules of sentence ends, and that no character but spaces is lost."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess import sentences as rules
from preprocess.sentences import sentences, spans

# where a sentence ends there is a bar, which the text does not have
ENGLISH = [
    "One. |Two! |Three? |Four",
    "He met Dr. Smith and J. R. Jones.",
    "He bought pens, ink etc. |He left.",
    '"Go." |She went.',
    '"Who is it?" Tom asked. |"Me!" he said.',
    "“Go!” I cried. |“Never!” Mr. Smith shouted.",
    "“I am here. |You are there,” said he.",
    "It cost 3.5 in 1990. |1991 came.",
    "The U.S. Army came. |He left the U.S. |The end.",
    "See Fig. 3 and vol. 2, No. 5. |It rained.",
    "Wait... |He came.",
    "Well... I think so.",
    "Vitamin C. |It is good.",
    "He arrived at 5 p.m. |On Monday he left.",
    'Mr. and Mrs. Bennet came. |"No," she said.',
    "She said no. |Then she left.",
    "St. John's wort grows in Mt. Vernon.",
    "1. The first item. |2. The second item.",
    "Smith et al. (1990) found it. |They were right.",
    "He works for Acme Inc. in Boston. |So do I. |Then he left.",
    "Born on Jan. 5, 1920, he died in Dec. 1990.",
    "(He left.) |She stayed. |[She knew.]",
    "What? no way.",
    '"Yes!" |"No!" |"Why?"',
    "So did I. |Then he came.",
    "He has a Ph.D. in physics. |Prof. Lee has none.",
    "The file is at www.example.com/a.html today. |It is big.",
    "‘Go!’ said Tom. |‘No.’ |He went.",
    "He lives at 5 St. James St. in London.",
    "Henry V. |The play is old.",
    "Use e.g. Python or i.e. C. |We do.",
    "At 10 a.m. the bell rang. |Gen. Lee came.",
    "It rose 5.2%. |Costs fell by $3.75 a day!",
    "D. H. Lawrence and W. B. Yeats wrote. |T. S. Eliot too.",
    "He said, “Stop!” |Then he ran.",
    '"What is it?" |"A dog."',
    "Of Matt. 5:5 and Isa. 35 (c. 1150) he wrote. |1151 came.",
    "a verse,|\nanother|\n\nlast",
    "not an end. of course",
    "He knew www.example.com/a.b?c=d and x.y",
    "",
]
CHINESE = [
    "一句。|二句！|「三句。」|四",
    "“你好！”他说。|他走了。",
    "“你走吧。”她笑道。|他走了。",
    "只见班部丛中奏曰：“目今瘟疫盛行，伤损军民甚多。|伏望陛下。”|天子听奏，急敕翰林。",
    "玄德曰：“我来也！”|张飞曰：“可。”",
    "他说：“走吧……”|“好。”她说。",
    "他走了.|我来了!|真的?|是的.",
    "价格是3.5元。|真好！",
    "《你好！中国》是书。|我看过。",
    '第一回也．|作者自云：因曾历．|故曰"甄士隐"云云．',
    "他……他走了。|我也走了……。",
    "他问“为什么？”的时候，天黑了。",
    '众人道："好。"|"走吧！"|他们走了。',
    '他走了。|"我来了。"|"好！"她说。',
    "他（真的吗？）走了。|我没走。",
    "（他走了。）|我没走。",
    "一．总则。|二．细则。",
    "我用Python 3.11。|你呢？！|我不用……",
    "他喊：“快！|快！”|大家跑了起来。",
    "我爱你！！！|真的。",
    "他说OK!|然后走了。",
    "「走れ！」と彼は言った。|彼女も走った。",
    "今日は雨です。|明日は晴れ。",
    "我说：‘你来。’|他没来。",
    "他来了；她走了：没人留下。|完。",
    "甲、乙、丙。|丁？|戊！",
    "“你是谁？”|“我是我。”",
    "他说道：“走！”|说着，他走了。",
    '问道：“谁？"|答曰：“我。”',
]
OTHERS = [
    "The word 你好 means hello. |It is Chinese.",
    "他说 Hello. |然后走了。",
    "我读了 Mr. Smith 的书。|很好。",
    "He said “你好！” |Then he left.",
    "Это так. |Он ушёл. |Да!",
    "هذا بيت. |هل هو كبير؟ |نعم.",
    "यह घर है। |वह बड़ा है।",
    "그는 갔다. |그녀도 갔다.",
]


@pytest.mark.parametrize("text", [*ENGLISH, *CHINESE, *OTHERS])
def test_rules(text: str) -> None:
    assert sentences(text.replace("|", "")) == [piece.strip() for piece in text.split("|") if piece]


def by_rule(text: str) -> list[tuple[int, int]]:
    """What `spans` finds, without its short ways: every mark is put to the rules."""
    found, begin, quotes = [], 0, 0
    for match in re.finditer(rf"\n+|[{rules._MARKS}]+([{rules._CLOSING}]*\"?[{rules._CLOSING}]*)|[\"“”]", text):
        at, end = match.span()
        if text[at] == "\n":
            found += [(begin, at)] if at > begin else []
            begin, quotes = end, 0
        elif match[1] is None:
            quotes += 1
        else:
            closing = match[1]
            inside = sum(map(closing.count, '"“”'))
            if closing[:1] == '"' and text[end : end + 1] not in " \n" and quotes % 2 == 0:
                end, closing = match.start(1), ""
            quotes += inside
            if rules._ends(text, begin, at, text[at : match.start(1)], closing):
                found.append((begin, end))
                begin = end + (text[end : end + 1] == " ")
    return found + ([(begin, len(text))] if begin < len(text) else [])


PIECES = (
    ". |.\n|\n\n|etc|Mr|vol|approx|IV|A|p.m|thirteen|?” said| Tom cried.|... |e.g|他说。|.” |《书|。”|！》|他。|第一"
)
FRAGMENTS = [*'aBI .!?\n。！？．…⋯؟।」"1“”)’ 《》（,，的', *PIECES.split("|")]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join))
def test_short_ways_lead_where_the_rules_do(text: str) -> None:
    text = re.sub(" *\n *", "\n", re.sub(" +", " ", text)).strip()
    assert spans(text) == by_rule(text)


@pytest.mark.parametrize("separator", [" ", "\n", ""])
def test_rules_of_all_examples_in_one_text(separator: str) -> None:
    text = separator.join(example.replace("|", "") for example in (*ENGLISH, *CHINESE, *OTHERS)).strip()
    assert spans(text) == by_rule(text)


@given(st.text(alphabet='aBI .!?\n。」"1…“”他说！《', max_size=60).map(lambda text: " ".join(text.split(" ")).strip()))
def test_spans_hold_all_but_spaces(text: str) -> None:
    found = spans(text)
    assert all(begin < end for begin, end in found)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(found))
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@pytest.mark.parametrize("piece", ["." * 99, "…！", '他。"', "《他。", "A. ", "1. A ", "”Abc !"])
def test_what_repeats_for_ever_is_split_in_linear_time(piece: str) -> None:
    """A quadratic rule would take minutes here, and the test's time limit would end it."""
    text = (piece * 300_000)[:300_000].strip()
    assert len("".join("".join(sentences(text)).split())) == len("".join(text.split()))
