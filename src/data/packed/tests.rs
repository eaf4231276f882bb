//! Encodings, and random operations against a vector of texts.

use super::*;
use crate::data::testing;

fn texts(packed: &Packed) -> Vec<Vec<u8>> {
    packed.iter().map(Item::to_vec).collect()
}

#[test]
fn it_holds_24_bytes_and_nothing_while_empty() {
    assert_eq!(size_of::<Packed>(), 24);
    assert_eq!(Packed::new().allocated_bytes(), 0);
    assert_eq!(Packed::new().len(), 0);
    assert_eq!(Packed::new().get(0), None);
    assert_eq!(Packed::new().iter().next_back(), None);
}

/// Every width of integer and every kind of text comes back as it went in, in the encoding that it should have.
#[test]
fn elements_come_back_as_they_went_in() {
    let mut ints = vec![0, 46, 47, -1, i64::MIN, i64::MAX];
    for bits in 0..63 {
        let power = 1i64 << bits;
        ints.extend([power - 1, power, power + 1, -power - 1, -power, -power + 1]);
    }
    let mut packed = Packed::new();
    for &int in &ints {
        packed.push_back(int.to_string().as_bytes());
    }
    let back: Vec<_> = packed.iter().map(|item| item.int()).collect();
    assert_eq!(
        back,
        ints.iter().copied().map(Some).collect::<Vec<_>>(),
        "integers"
    );
    for item in &packed {
        assert_eq!(item.text_len(), item.to_vec().len(), "{item:?}");
    }
    for text in ["", "-0", "01", "+1", "9223372036854775808", "1 ", "x"] {
        assert_eq!(Item::new(text.as_bytes()), Item::Bytes(text.as_bytes()));
    }
    for length in [0, 1, 199, 200, 201, 255, 256, 70_000] {
        let text = vec![b'x'; length];
        let mut packed = Packed::new();
        packed.push_back(&b"before"[..]);
        packed.push_back(&text[..]);
        packed.push_back(&b"after"[..]);
        assert_eq!(packed.get(1), Some(Item::Bytes(&text)), "{length}");
        assert_eq!(packed.iter().nth_back(1), Some(Item::Bytes(&text)));
        assert_eq!(packed.view().find(&text[..], 1), Some(1));
    }
}

/// One byte beyond the text, or two for all: what the figures of small collections are made of.
#[test]
fn sixteen_elements_take_a_byte_each_or_two() {
    let mut packed = Packed::new();
    for index in 0..8 {
        packed.push_back(format!("f{index}").as_bytes());
        packed.push_back(format!("{index}abcdefg").as_bytes());
    }
    assert_eq!(packed.used_bytes(), 8 * (3 + 9));
    assert_eq!(packed.allocated_bytes(), 112);
    assert_eq!(packed.view().compact_len(), 8 * (2 + 8) + 2);
    packed.replace(7, &b"longer than the others"[..]);
    assert_eq!(packed.view().compact_len(), packed.used_bytes());
}

#[test]
fn pairs_and_steps() {
    let mut packed = Packed::new();
    for text in ["a", "b", "b", "7", "c", "a"] {
        packed.push_back(text.as_bytes());
    }
    let view = packed.view();
    assert_eq!(view.find(&b"b"[..], 1), Some(1));
    assert_eq!(view.find(&b"b"[..], 2), Some(2));
    assert_eq!(view.find(&b"7"[..], 2), None);
    assert_eq!(view.find(7, 1), Some(3));
    let pairs: Vec<_> = view.pairs().rev().map(|(_, value)| value).collect();
    assert_eq!(
        pairs,
        [Item::Bytes(b"a"), Item::Int(7), Item::Bytes(b"b")],
        "from the end"
    );
    assert_eq!(view.pairs().nth(1), Some((Item::Bytes(b"b"), Item::Int(7))));
    let mut iter = view.iter();
    assert_eq!(iter.seek(&Element::from(&b"b"[..]), 2), Some(2));
    assert_eq!(iter.next(), Some(Item::Int(7)), "the value of the field");
    assert!(view.get(3).expect("there") == b"7"[..]);
    assert!(view.get(3).expect("there") != b"07"[..]);
}

/// Random operations at both ends and in the middle against a vector, in every reading.
#[test]
fn it_is_a_vector_of_texts() {
    let mut rng = testing::seeded();
    for _ in 0..testing::rounds(60) {
        let longest = [3, 12, 300][rng.usize(..3)];
        let front = rng.u8(..3) == 0;
        let (mut packed, mut model) = (Packed::new(), Vec::<Vec<u8>>::new());
        for step in 0..400 {
            let text = testing::text(&mut rng, longest);
            let index = rng.usize(..=model.len());
            let growing = step < 250;
            match rng.u8(..10) {
                0..3 if growing && front => {
                    packed.push_front(&text[..]);
                    model.insert(0, text);
                }
                0..4 if growing => {
                    packed.push_back(&text[..]);
                    model.push(text);
                }
                4 => {
                    packed.insert(index, &text[..]);
                    model.insert(index, text);
                }
                5 if index < model.len() => {
                    packed.replace(index, &text[..]);
                    model[index] = text;
                }
                6 => {
                    let to = (index + rng.usize(..4)).min(model.len());
                    packed.remove(index..to);
                    model.drain(index..to);
                }
                7 if !model.is_empty() => {
                    let last = if front { model.len() - 1 } else { 0 };
                    packed.remove(last..last + 1);
                    model.remove(last);
                }
                8 if rng.u8(..8) == 0 => {
                    let tail = packed.split_off(index);
                    assert_eq!(texts(&tail), model[index..]);
                    packed.append(tail.view().range(0..tail.len() / 2));
                    model.truncate(index + tail.len() / 2);
                }
                _ => {}
            }
            check(&packed, &model, &mut rng);
        }
    }
}

fn check(packed: &Packed, model: &[Vec<u8>], rng: &mut fastrand::Rng) {
    assert_eq!(texts(packed), model);
    let mut back: Vec<_> = packed.iter().rev().map(Item::to_vec).collect();
    back.reverse();
    assert_eq!(back, model);
    assert_eq!(packed.len(), model.len());
    let index = rng.usize(..=model.len());
    assert_eq!(
        packed.get(index).map(Item::to_vec),
        model.get(index).cloned()
    );
    if let Some(text) = model.get(index) {
        let first = model.iter().position(|other| other == text);
        assert_eq!(packed.view().find(&text[..], 1), first);
    }
    let used: usize = model
        .iter()
        .map(|text| Element::from(&text[..]).size())
        .sum();
    assert_eq!(packed.used_bytes(), used);
    let capacity = packed.allocated_bytes();
    assert_eq!(
        capacity,
        if capacity == 0 {
            0
        } else {
            good_size(capacity)
        }
    );
    assert!(
        capacity <= (used + COUNT_BYTES) * 2 + 16,
        "{capacity} for {used}"
    );
    check_compact(packed.view(), model, rng);
}

/// The compact form reads as the sequence: whole and in part, from both ends, and as the source of a copy.
fn check_compact(view: PackedRef<'_>, model: &[Vec<u8>], rng: &mut fastrand::Rng) {
    let mut compact = Vec::new();
    let shape = view.write_compact(&mut compact);
    assert_eq!(compact.len(), view.compact_len());
    assert_eq!(Shape::from_bits(shape.bits()), shape);
    assert_eq!(shape.bits() >> Shape::BITS, 0);
    let read = PackedRef::from_compact(&compact, shape);
    assert_eq!(read.len(), model.len());
    assert_eq!(texts(&Packed::copy_of(read)), model);
    let (from, to) = (rng.usize(..=model.len()), rng.usize(..=model.len()));
    let range = from.min(to)..from.max(to);
    let part = read.range(range.clone());
    assert_eq!(texts(&Packed::copy_of(part)), model[range.clone()]);
    let mut again = Vec::new();
    let shape = part.write_compact(&mut again);
    let again = PackedRef::from_compact(&again, shape);
    assert!(again.iter().eq(part.iter()) && part.compact_len() == again.compact_len());
    let mut expected: Vec<_> = model[range].iter().map(|text| Item::new(text)).collect();
    let mut iter = part.iter();
    for _ in 0..8 {
        assert_eq!(iter.len(), expected.len());
        let count = rng.usize(..3);
        let skipped = count.min(expected.len());
        let item = if rng.bool() {
            expected.drain(..skipped);
            (!expected.is_empty()).then(|| expected.remove(0)) == iter.nth(count)
        } else {
            expected.truncate(expected.len() - skipped);
            expected.pop() == iter.nth_back(count)
        };
        assert!(item);
    }
    if let Some(sought) = rng.choice(model) {
        for step in 1..4 {
            let found = (0..model.len())
                .step_by(step)
                .find(|&at| &model[at] == sought);
            assert_eq!(read.find(&sought[..], step), found, "step {step}");
        }
    }
    assert_eq!(read.find(&b"not there"[..], 2), None);
}

/// Elements whose heads alternate, or all but alternate, in any number.
#[test]
fn heads_that_alternate_are_left_out_of_the_compact_form() {
    let mut rng = testing::seeded();
    for _ in 0..testing::rounds(400) {
        let count = [3, 16, 33, 300][rng.usize(..4)];
        let count = rng.usize(..count);
        let lengths = [0; 2].map(|_| [0, 1, 8, 64, 199, 200, 300][rng.usize(..7)]);
        let numbers = rng.u8(..4) == 0;
        let text = |length, rng: &mut fastrand::Rng| match numbers {
            true => rng.i64(1000..30_000).to_string().into_bytes(),
            false => vec![rng.u8(b'a'..=b'b'); length],
        };
        let mut model: Vec<_> = (0..count)
            .map(|index| text(lengths[index % 2], &mut rng))
            .collect();
        let alternates = count > 2 && count < 255 && (numbers || lengths.iter().all(|&l| l < 200));
        let mut packed = Packed::new();
        model.iter().for_each(|text| packed.push_back(&text[..]));
        let bodies = packed.used_bytes() - packed.len();
        let count_bytes = match count {
            0..31 => 0,
            31..255 => 1,
            _ => 5,
        };
        let heads = if alternates { 2 } else { count };
        assert_eq!(packed.view().compact_len(), bodies + heads + count_bytes);
        check_compact(packed.view(), &model, &mut rng);
        if count > 0 {
            let index = rng.usize(..count);
            model[index] = b"another length".to_vec();
            packed.replace(index, &model[index][..]);
            check_compact(packed.view(), &model, &mut rng);
        }
    }
}

#[test]
fn a_compact_form_of_many_elements() {
    let mut packed = Packed::new();
    for value in 0..1000i64 {
        packed.push_back(value);
    }
    let mut compact = Vec::new();
    let shape = packed.view().write_compact(&mut compact);
    let view = PackedRef::from_compact(&compact, shape);
    assert_eq!(view.len(), 1000);
    assert_eq!(view.get(999), Some(Item::Int(999)));
    assert_eq!(Packed::copy_of(view).get(500), Some(Item::Int(500)));
}

/// A list's queue: what is put in at one end and taken at the other keeps its memory bounded.
#[test]
fn a_queue_stays_within_its_memory() {
    for from_front in [false, true] {
        let mut packed = Packed::new();
        for value in 0..5000i64 {
            let (text, length) = (value + 1_000_000, packed.len());
            if from_front {
                packed.push_back(text);
            } else {
                packed.push_front(text);
            }
            if length > 100 {
                let taken = if from_front { 0 } else { length };
                packed.remove(taken..taken + 1);
            }
        }
        assert_eq!(packed.len(), 101);
        assert!(
            packed.allocated_bytes() <= 640,
            "{}",
            packed.allocated_bytes()
        );
    }
}
