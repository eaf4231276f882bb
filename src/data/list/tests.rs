//! Lists against a vector, with small and large nodes and elements.

use super::super::testing::{rounds, seeded, text};
use super::nodes::{GROUP, GROUP_BYTES, Node, deque_bytes};
use super::*;

fn all(list: &List) -> Vec<Vec<u8>> {
    list.view()
        .range(0..usize::MAX)
        .map(Element::to_vec)
        .collect()
}

fn counted_bytes(list: &List) -> usize {
    match list {
        List::Packed(packed, _) => packed.allocated_bytes(),
        List::Nodes(nodes) => {
            let mut bytes = good_size(size_of::<Nodes>()) + deque_bytes(&nodes.groups);
            for group in &nodes.groups {
                bytes += GROUP_BYTES + deque_bytes(&group.nodes);
                bytes += group.nodes.iter().map(Node::bytes).sum::<usize>();
            }
            bytes
        }
    }
}

fn check(list: &List, limits: Limits) {
    assert_eq!(list.allocated_bytes(), counted_bytes(list));
    match list {
        List::Packed(packed, listpack) => {
            let known = listpack.unwrap_or_else(|| listpack_bytes(packed.view()));
            assert_eq!(known, listpack_bytes(packed.view()));
        }
        List::Nodes(nodes) => {
            let mut all = 0;
            for group in &nodes.groups {
                assert!((1..=GROUP).contains(&group.nodes.len()));
                let len: usize = group.nodes.iter().map(Node::len).sum();
                assert_eq!(len, group.len);
                all += len;
                for node in &group.nodes {
                    assert!(node.len() > 0);
                    if let Node::Packed(packed) = node {
                        assert!(limits.allow(packed.used_bytes() + 4, packed.len()));
                    }
                }
            }
            assert_eq!(all, nodes.len());
        }
    }
}

fn element(rng: &mut fastrand::Rng) -> Vec<u8> {
    match rng.u8(..60) {
        0 => vec![b'x'; rng.usize(3_000..10_000)],
        1..10 => vec![b'y'; rng.usize(..700)],
        10..20 => b"often".to_vec(),
        _ => text(rng, 20),
    }
}

#[test]
fn random_changes_agree_with_a_vector() {
    let mut rng = seeded();
    for round in 0..rounds(12) {
        let mut snapshot = (List::new(), Vec::new());
        let limits = Limits::from_parameter([-1, 3, 1, -2, 100, -5][round % 6]);
        let mut list = List::new();
        let mut model: Vec<Vec<u8>> = Vec::new();
        for step in 0..2_500 {
            let grow = step / 800 % 2 == 0;
            let text = element(&mut rng);
            let end = if rng.bool() { End::Head } else { End::Tail };
            let index = rng.usize(..=model.len());
            match rng.u8(..16) {
                0..6 if grow => {
                    list.push(end, text.as_slice(), limits);
                    let place = if end == End::Head { 0 } else { model.len() };
                    model.insert(place, text);
                }
                0..6 => {
                    let place = match end {
                        End::Head => 0,
                        End::Tail => model.len().saturating_sub(1),
                    };
                    let held = list.view().peek(end).map(Element::to_vec);
                    assert_eq!(held.as_ref(), model.get(place));
                    list.pop(end, limits);
                    if !model.is_empty() {
                        model.remove(place);
                    }
                }
                6..10 if grow => {
                    let shared = Text::Shared(Bytes::from(text.clone()));
                    list.insert(index, shared, limits);
                    model.insert(index, text);
                }
                10..12 => {
                    assert_eq!(
                        list.set(index, text.as_slice(), limits),
                        index < model.len()
                    );
                    if let Some(place) = model.get_mut(index) {
                        *place = text;
                    }
                }
                12 if !grow || rng.u8(..8) == 0 => {
                    let end = index + rng.usize(..30);
                    list.remove_range(index..end, limits);
                    model.drain(index..end.min(model.len()));
                }
                13 if rng.u8(..8) == 0 => {
                    let count = rng.usize(1..20);
                    let removed = list.remove_equal(b"often", count, end, limits);
                    assert_eq!(removed, remove_from_model(&mut model, b"often", count, end));
                }
                14 if rng.u8(..40) == 0 => {
                    let end = index + rng.usize(..=model.len() - index);
                    list.trim(index / 4..end.max(index / 4), limits);
                    model.truncate(end.max(index / 4));
                    model.drain(..index / 4);
                }
                _ => {}
            }
            assert_eq!(list.len(), model.len());
            let at = rng.usize(..=model.len());
            let held = list.view().get(at).map(Element::to_vec);
            assert_eq!(held.as_ref(), model.get(at));
            if step % 50 == 0 {
                check(&list, limits);
                compare_reads(&mut rng, &list, &model);
                assert_eq!(all(&snapshot.0), snapshot.1);
                snapshot = (list.clone(), model.clone());
                check(&snapshot.0, limits);
            }
        }
    }
}

/// Found by the random test: where only the number of elements is limited, two nodes became one of 8,192 bytes, which with its count
/// took the next size class.
#[test]
fn nodes_are_merged_within_the_limit_with_their_count() {
    let limits = Limits::from_parameter(100);
    let mut list = List::new();
    // Beside its text such an element takes nine bytes.
    for length in [4087, 1, 4087, 8000] {
        list.push(End::Tail, &vec![b'x'; length][..], limits);
    }
    list.remove_range(1..2, limits);
    assert_eq!(list.len(), 3);
    check(&list, limits);
}

fn remove_from_model(model: &mut Vec<Vec<u8>>, text: &[u8], count: usize, end: End) -> usize {
    let mut places: Vec<usize> = (0..model.len()).filter(|&at| model[at] == text).collect();
    if end == End::Tail {
        places.reverse();
    }
    places.truncate(count);
    places.sort_unstable();
    for &place in places.iter().rev() {
        model.remove(place);
    }
    places.len()
}

fn compare_reads(rng: &mut fastrand::Rng, list: &List, model: &[Vec<u8>]) {
    let view = list.view();
    assert_eq!(all(list), model);
    let start = rng.usize(..=model.len());
    let end = rng.usize(start..=model.len());
    let range = view.range(start..end);
    assert_eq!(range.len(), end - start);
    assert!(
        range
            .map(Element::to_vec)
            .eq(model[start..end].iter().cloned())
    );
    let back = view.range_back(start..end).map(Element::to_vec);
    assert!(back.eq(model[start..end].iter().rev().cloned()));
    // At once, from some element on.
    let skipped = rng.usize(..=end - start);
    let (mut folded, mut back) = (Vec::new(), Vec::new());
    let mut range = view.range(start..end);
    range.by_ref().take(skipped).for_each(drop);
    range.for_each(|element| folded.push(element.to_vec()));
    assert_eq!(folded, model[start + skipped..end]);
    let range = view.range_back(start..end);
    range.for_each(|element| back.insert(0, element.to_vec()));
    assert_eq!(back, model[start..end]);
    for side in [End::Head, End::Tail] {
        let limit = rng.usize(..=model.len());
        let mut found = Vec::new();
        view.positions(b"often", side, limit, |index| {
            found.push(index);
            found.len() < 5
        });
        let places = (0..model.len()).filter(|&at| model[at] == b"often");
        let mut expected: Vec<usize> = match side {
            End::Head => places.filter(|&at| at < limit).collect(),
            End::Tail => places
                .rev()
                .filter(|&at| at + limit >= model.len())
                .collect(),
        };
        expected.truncate(5);
        assert_eq!(found, expected);
    }
}

#[test]
fn a_list_is_converted_where_redis_7_2_converts_it() {
    // 7 bytes of frame, then 103 for each: 79 of them take 8,144 bytes, and the text of the next does not fit.
    let limits = Limits::from_parameter(-2);
    let mut list = List::new();
    let mut longest = 0;
    while list.view().encoding() == "listpack" {
        longest = list.len();
        list.push(End::Tail, &[b'a'; 100][..], limits);
    }
    assert_eq!(longest, 79);
    while list.view().encoding() == "quicklist" {
        longest = list.len();
        list.pop(End::Head, limits);
    }
    // Half of 8,192 bytes: 39 elements of 103 bytes and the frame.
    assert_eq!((longest, list.len()), (40, 39));

    let limits = Limits::from_parameter(4);
    let mut list = List::new();
    for text in [b"a", b"b", b"c", b"d"] {
        list.push(End::Head, &text[..], limits);
        assert_eq!(list.view().encoding(), "listpack");
    }
    list.push(End::Head, &b"e"[..], limits);
    assert_eq!(list.view().encoding(), "quicklist");
    list.pop(End::Head, limits);
    list.pop(End::Head, limits);
    assert_eq!(list.view().encoding(), "quicklist");
    list.remove_range(0..2, limits);
    assert_eq!((list.view().encoding(), list.len()), ("listpack", 1));
}

#[test]
fn all_arguments_of_a_push_are_looked_at_together() {
    let limits = Limits::from_parameter(4);
    let mut list = List::new();
    list.prepare(5, 5, limits);
    assert_eq!(list.view().encoding(), "quicklist");
    assert!(list.is_empty());
    list.push(End::Tail, &b"a"[..], limits);
    assert_eq!(all(&list), [b"a"]);
}

#[test]
fn an_element_above_the_limit_is_held_in_its_own_buffer() {
    let limits = Limits::from_parameter(-1);
    let large = Bytes::from(vec![b'x'; 100_000]);
    let mut list = List::new();
    list.push(End::Tail, &b"a"[..], limits);
    list.push(End::Tail, Text::Shared(large.clone()), limits);
    list.push(End::Tail, &b"b"[..], limits);
    let snapshot = list.view().snapshot();
    let Some(Element::Large(held)) = snapshot.view().get(1) else {
        panic!("not held apart")
    };
    assert_eq!(held.as_ptr(), large.as_ptr());
    assert_eq!(list.remove_equal(&large, 1, End::Tail, limits), 1);
    assert_eq!(all(&list), [b"a", b"b"]);
    check(&list, limits);
}

#[test]
fn parameters_mean_what_redis_says() {
    let bytes = [-1, -2, -3, -4, -5, -6].map(|size| Limits::from_parameter(size).bytes);
    assert_eq!(bytes, [4096, 8192, 16384, 32768, 65536, 65536]);
    assert_eq!(Limits::from_parameter(0).entries, 1);
    assert_eq!(Limits::from_parameter(128).entries, 128);
    assert_eq!(Limits::from_parameter(i64::MIN).bytes, 65536);
}

#[test]
fn listpack_sizes_are_redis_s() {
    let cases: [(&[u8], u32); 8] = [
        (b"0", 2),
        (b"127", 2),
        (b"128", 3),
        (b"-1", 3),
        (b"5000", 4),
        (b"100000", 5),
        (b"9223372036854775807", 10),
        (b"a", 3),
    ];
    for (text, size) in cases {
        assert_eq!(listpack_size(Item::new(text)), size);
    }
    assert_eq!(listpack_size(Item::new(&[b'a'; 64])), 67);
    assert_eq!(listpack_size(Item::new(&[b'a'; 4096])), 4103);
}

#[test]
fn a_large_list_is_freed_in_pieces() {
    let limits = Limits::from_parameter(10);
    let mut list = List::new();
    for number in 0..20_000 {
        list.push(End::Tail, number.to_string().as_bytes(), limits);
    }
    check(&list, limits);
    let mut remains = list.into_remains().unwrap();
    let mut pieces = 1;
    while !remains.free(100) {
        pieces += 1;
    }
    assert_eq!(pieces, 16, "2,000 nodes in groups of 64");
}

/// What takes 2 bytes in Redis's listpack and 1 here, or 204 and 209, bounds the guesses that save counting.
#[test]
fn a_listpack_is_bounded_by_what_is_used_here() {
    let mut rng = seeded();
    let mut texts: Vec<Vec<u8>> = (0..12_000).map(|length| vec![b'x'; length]).collect();
    texts.extend((0..2_000).map(|_| text(&mut rng, 300)));
    texts.extend((-300..300).map(|number: i64| number.to_string().into_bytes()));
    for text in texts {
        let item = Item::new(&text);
        let used = super::super::packed::Element::from(item).size();
        let listpack = listpack_size(item) as usize;
        assert!(listpack <= LISTPACK_MOST * used, "{item:?}");
        assert!(listpack_least(used) <= listpack, "{item:?}");
    }
}

/// Elements that take twice as much in a listpack: the way back to one sequence is found, though not asked for each time.
#[test]
fn an_only_node_becomes_a_sequence_again() {
    let limits = Limits::from_parameter(-2);
    let mut list = List::new();
    let mut count = 0;
    while list.view().encoding() == "listpack" {
        list.push(End::Tail, &b"7"[..], limits);
        count += 1;
    }
    assert_eq!(count, 4094, "the text of the next is counted as 1 byte");
    while list.view().encoding() == "quicklist" {
        list.pop(End::Head, limits);
        count -= 1;
    }
    assert_eq!(count, 2044);
}

/// What was removed is cut out at once, however many groups it was.
#[test]
fn ends_and_middles_of_a_long_list_are_removed() {
    let limits = Limits::from_parameter(1);
    let whole = 64 * 40;
    let mut rng = seeded();
    for _ in 0..rounds(40) {
        let mut list = List::new();
        let mut model = Vec::new();
        for number in 0..whole {
            let text = number.to_string().into_bytes();
            list.push(End::Tail, text.as_slice(), limits);
            model.push(text);
        }
        while !model.is_empty() {
            let start = rng.usize(..model.len());
            let end = rng.usize(start..=model.len());
            let remains = list.remove_range(start..end, limits);
            assert!(remains.len() <= end - start);
            model.drain(start..end);
            check(&list, limits);
            assert_eq!(all(&list), model);
            if rng.u8(..4) == 0 {
                let start = rng.usize(..=model.len());
                list.trim(start..usize::MAX, limits);
                model.drain(..start);
            }
        }
        assert!(list.is_empty());
    }
}
