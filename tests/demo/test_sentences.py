import random
import re

from wand.demo.sentences import sentence


def test_same_state_same_sentences() -> None:
    one, two = random.Random(5), random.Random(5)
    assert [sentence(one) for _ in range(50)] == [sentence(two) for _ in range(50)]


def test_letters_and_variety() -> None:
    rng = random.Random(0)
    sentences = [sentence(rng) for _ in range(5000)]
    assert all(re.fullmatch(r"[a-z' ,.?]+[.?]", text) for text in sentences)
    assert all("  " not in text and " ," not in text for text in sentences)
    assert len(set(sentences)) > 4900
    assert len({word for text in sentences for word in re.findall(r"[a-z']+", text)}) > 300
    assert 0.1 < sum(text.endswith("?") for text in sentences) / len(sentences) < 0.4
