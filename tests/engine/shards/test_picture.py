"""What is carried past validation has the bytes that validated records would have had."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.shards.picture import Person, Picture, Source, digest, person_json, sample_json
from schemas.sample import Camera, Instance, Sample, SmplParams
from schemas.skeletons import COCO17

numbers = st.floats(-1e20, 1e20, allow_nan=False) | st.integers(-5, 5).map(float) | st.sampled_from([1e-7, 1e16, -0.0, 0.1 + 0.2])
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    n = len(COCO17)
    smpl = SmplParams(pose=draw(st.lists(numbers, min_size=72, max_size=72)), betas=(0.5,) * 10, transl=(draw(numbers), 0, 1))
    return Instance(
        annotation_id=draw(texts),
        bbox_xywh=(draw(numbers), 2, 3, 4),
        skeleton="coco17",
        joints_img=draw(st.lists(st.tuples(numbers, numbers), min_size=n, max_size=n)),
        joints_valid=draw(st.lists(st.booleans(), min_size=n, max_size=n)),
        joints_cam=draw(st.sampled_from([None, ((0.1, 2, draw(numbers)),) * n])),
        joints_univ=draw(st.sampled_from([None, ((draw(numbers), 1e-9, 3),) * n])),
        smpl=draw(st.sampled_from([None, smpl])),
        camera=draw(st.sampled_from([None, Camera(focal=(1e3, 1.5), princpt=(0, 2))])),
    )


def _person(instance: Instance) -> Person:
    return Person(instance.annotation_id, instance.bbox_xywh, person_json(instance))


@settings(max_examples=20)
@given(st.lists(instances(), max_size=2), texts, texts, st.integers(1, 8))
def test_an_assembled_sample_is_the_sample_s_bytes(people: list[Instance], dataset: str, image_path: str, orientation: int) -> None:
    sample = Sample(
        key="a-B_9", dataset=dataset, image_path=image_path, width=640, height=48, exif_orientation=orientation, instances=tuple(people)
    )
    persons = tuple(map(_person, people))
    picture = Picture("a-B_9", image_path, Source("file", image_path), None, None, persons)
    assert sample_json(dataset, picture, persons, (640, 48), orientation) == sample.to_bytes()


@settings(max_examples=5)
@given(instances(), instances())
def test_a_digest_tells_pictures_apart(one: Instance, two: Instance) -> None:
    picture = Picture("k", "k.jpg", Source("slice", "a.tfrecord", 5, 7), 10, 10, (_person(one),))
    others = [
        picture._replace(key="l"),
        picture._replace(width=None),
        picture._replace(source=picture.source._replace(at=6)),
        picture._replace(persons=(_person(one), _person(two))),
        picture._replace(persons=()),
    ]
    assert len({digest([p]) for p in (picture, *others)} | {digest([picture, picture]), digest([])}) == len(others) + 3
    assert digest([picture]) == digest([Picture(*picture)])
