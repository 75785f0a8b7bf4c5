"""The model card of a generator."""

from dataclasses import replace

from kdmodels.report.contents import DataFacts
from kdmodels.report.generator_card import GeneratorCard, generator_card

CARD = GeneratorCard(
    model="made",
    version=3,
    decision="made replaces the champion, version 2: its distance is lower by 5 %, p < 0.001.",
    kind="variational autoencoder",
    latent=20,
    conditional=True,
    image=(1, 28, 28),
    results={"Fréchet distance": "12.3", "evidence lower bound in nats": ""},
    data=DataFacts("mnist", {"digest of the data": "d1"}, {"train": 54_000}, ["0", "1"], []),
    facts={"run of the generator": "r1"},
)


def test_the_card_says_what_the_model_is_and_how_it_was_made() -> None:
    text = generator_card(CARD)
    assert text.startswith("**made replaces the champion, version 2: its distance is lower by 5 %, p &lt; 0.001.**")
    assert "float32 of shape (N, 20), and the class of each image as one-hot float32 (N, 2)" in text
    for row in ("| Fréchet distance | 12.3 |", "| images | 54,000 train |", "| run of the generator | r1 |"):
        assert row in text
    assert "evidence lower bound" not in text  # it was not measured
    assert 'model.predict({"codes": codes, "class": classes})["images"]' in text
    assert "kd sample made/3 -n 64 -o grid.png\nkd show made/3 --spec > made.yaml\nkd run made.yaml" in text


def test_a_generator_without_classes_takes_only_codes() -> None:
    text = generator_card(replace(CARD, conditional=False))
    assert "one-hot" not in text
    assert 'model.predict(codes)["images"]' in text
