//! The decoder: every split of every request, limits and errors, and redis-protocol as a second opinion.

use proptest::prelude::*;

use super::*;

type Request = Vec<Vec<u8>>;

fn limits() -> Limits {
    Limits::authenticated(512 * 1024 * 1024)
}

/// Runs the connection's loop over `stream`, of which `reads` says how much each read brings.
fn decode_in_reads(
    stream: &[u8],
    reads: impl IntoIterator<Item = usize>,
    limits: &Limits,
) -> (Vec<Request>, Option<ProtocolError>) {
    decode_ahead(stream, reads, limits, 0, usize::MAX)
}

/// As [`decode_in_reads`], decoding up to `window` requests ahead, and ending the batch after each `batch` requests.
fn decode_ahead(
    stream: &[u8],
    reads: impl IntoIterator<Item = usize>,
    limits: &Limits,
    window: usize,
    batch: usize,
) -> (Vec<Request>, Option<ProtocolError>) {
    let mut decoder = Decoder::new();
    let mut input = BytesMut::new();
    let mut requests = Vec::new();
    let mut rest = stream;
    let mut reads = reads.into_iter();
    while !rest.is_empty() {
        let len = reads.next().unwrap_or(usize::MAX).clamp(1, rest.len());
        input.extend_from_slice(&rest[..len]);
        rest = &rest[len..];
        loop {
            match decoder.next(&input, limits) {
                Ok(Status::Request) => {
                    if window > 0 && decoder.turn() == 0 {
                        decoder.look_ahead(&input, limits, window);
                    }
                    let request = copied(decoder.arguments(&input));
                    let foreseen = decoder.window(&input).nth(decoder.turn()).map(copied);
                    assert!(foreseen.is_none_or(|foreseen| foreseen == request));
                    if let Some(arguments) = decoder.received(&input) {
                        assert_received(&request, arguments, limits);
                    }
                    requests.push(request);
                    if requests.len() % batch == 0 {
                        decoder.release(&mut input);
                    }
                }
                Ok(Status::Incomplete) => break,
                Ok(Status::Large { bytes }) => {
                    let mut payload = decoder.begin_large(&mut input);
                    let missing = bytes - payload.len();
                    if missing > rest.len() {
                        return (requests, None);
                    }
                    payload.extend_from_slice(&rest[..missing]);
                    rest = &rest[missing..];
                    decoder.supply(payload.freeze());
                }
                Err(error) => return (requests, Some(error)),
            }
        }
        decoder.release(&mut input);
    }
    (requests, None)
}

/// What was received is the request, to whoever decodes it again.
fn assert_received(request: &Request, arguments: &[u8], limits: &Limits) {
    let again = [format!("*{}\r\n", request.len()).as_bytes(), arguments].concat();
    let mut decoder = Decoder::new();
    assert_eq!(decoder.next(&again, limits), Ok(Status::Request));
    assert_eq!(decoder.position(), again.len());
    assert_eq!(&copied(decoder.arguments(&again)), request);
}

fn copied(arguments: Arguments<'_>) -> Request {
    let request: Request = arguments.iter().map(<[u8]>::to_vec).collect();
    assert_eq!(request.len(), arguments.len());
    for (index, part) in request.iter().enumerate() {
        assert_eq!(&arguments[index], part.as_slice());
        assert_eq!(arguments.get(index), Some(part.as_slice()));
        if let Some(large) = arguments.large(index) {
            assert_eq!(large, part);
        }
    }
    assert_eq!(arguments.get(request.len()), None);
    request
}

fn decode_at_once(stream: &[u8]) -> (Vec<Request>, Option<ProtocolError>) {
    decode_in_reads(stream, [], &limits())
}

fn encode(request: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", request.len()).into_bytes();
    for part in request {
        bytes.extend(format!("${}\r\n", part.len()).into_bytes());
        bytes.extend(part);
        bytes.extend(b"\r\n");
    }
    bytes
}

fn words(text: &str) -> Request {
    text.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

#[test]
fn arguments_are_given_as_they_were_received() {
    let cases = [
        (
            "*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
            Some("$3\r\nGET\r\n$1\r\na\r\n"),
        ),
        ("*1\r\n$0\r\n\r\n", Some("$0\r\n\r\n")),
        ("*1\r\n$10\r\n0123456789\r\n", Some("$10\r\n0123456789\r\n")),
        ("GET a\r\n", None),
    ];
    for (stream, expected) in cases {
        let mut decoder = Decoder::new();
        let stream = stream.as_bytes();
        assert_eq!(decoder.next(stream, &limits()), Ok(Status::Request));
        assert_eq!(decoder.received(stream), expected.map(str::as_bytes));
    }
}

/// What redis-server 7.0.15 answers to each of these was compared by hand.
#[test]
fn errors_are_those_of_redis() {
    use ProtocolError::*;
    let long = |start: &str, len: usize| [start.as_bytes(), &vec![b'1'; len]].concat();
    let cases: Vec<(Vec<u8>, Option<ProtocolError>)> = vec![
        (b"*1000000000\r\n".into(), None),
        (b"*2147483647\r\n".into(), None),
        (b"*2147483648\r\n".into(), Some(InvalidCount)),
        (b"*+1\r\n".into(), Some(InvalidCount)),
        (b"*01\r\n".into(), Some(InvalidCount)),
        (b"* 1\r\n".into(), Some(InvalidCount)),
        (b"*\r\n".into(), Some(InvalidCount)),
        (b"*-0\r\n".into(), Some(InvalidCount)),
        (b"*99999999999999999999\r\n".into(), Some(InvalidCount)),
        (b"*1\r\nx1\r\n".into(), Some(ExpectedDollar(b'x'))),
        (b"*1\r\n\xff1\r\n".into(), Some(ExpectedDollar(0xff))),
        (b"*1\r\n\r\n".into(), Some(ExpectedDollar(b'\r'))),
        (b"*1\r\nx1".into(), None),
        (b"*1\r\n$-1\r\n".into(), Some(InvalidBulk)),
        (b"*1\r\n$04\r\n".into(), Some(InvalidBulk)),
        (b"*1\r\n$536870912\r\n".into(), None),
        (b"*1\r\n$536870913\r\n".into(), Some(InvalidBulk)),
        (b"\"PING\r\n".into(), Some(UnbalancedQuotes)),
        (b"'PING\r\n".into(), Some(UnbalancedQuotes)),
        (b"\"PING\"x\r\n".into(), Some(UnbalancedQuotes)),
        (long("x", 65535), None),
        (long("x", 65536), Some(TooBigInline)),
        (long("*", 65535), None),
        (long("*", 65537), Some(TooBigCount)),
        (long("*1\r\n$", 65535), None),
        (long("*1\r\n$", 65536), Some(TooBigBulkCount)),
    ];
    for (stream, error) in cases {
        let shown = stream[..stream.len().min(40)].escape_ascii();
        assert_eq!(decode_at_once(&stream), (vec![], error), "{shown}");
        let bytewise = decode_in_reads(&stream, std::iter::repeat(1), &limits());
        assert_eq!(bytewise, (vec![], error), "{shown}");
    }
    assert_eq!(
        &*ExpectedDollar(0xff).wire_text(),
        b"ERR Protocol error: expected '$', got '\xff'"
    );
    assert_eq!(
        InvalidBulk.to_string(),
        "Protocol error: invalid bulk length"
    );
}

#[test]
fn limits_before_auth() {
    let decode = |stream: &str| decode_in_reads(stream.as_bytes(), [], &Limits::unauthenticated());
    assert_eq!(decode("*10\r\n$16384\r\n"), (vec![], None));
    assert_eq!(
        decode("*11\r\n").1,
        Some(ProtocolError::UnauthenticatedCount)
    );
    assert_eq!(
        decode("*1\r\n$16385\r\n").1,
        Some(ProtocolError::UnauthenticatedBulk)
    );
    assert_eq!(
        decode("*1\r\n$999999999\r\n").1,
        Some(ProtocolError::InvalidBulk)
    );
    let strict = Limits {
        max_arguments: 1,
        max_bulk_bytes: 5,
        ..Limits::unauthenticated()
    };
    let decode = |stream: &str| decode_in_reads(stream.as_bytes(), [], &strict).1;
    assert_eq!(
        decode("*2\r\n$1\r\na\r\n"),
        Some(ProtocolError::UnauthenticatedCount)
    );
    assert_eq!(
        decode("*1\r\n$6\r\nabcdef\r\n"),
        Some(ProtocolError::UnauthenticatedBulk)
    );
}

#[test]
fn empty_requests_and_inline_commands() {
    let stream =
        b"*0\r\n*-5\r\n\r\n\n   \r\nPI\"NG\" 1\r\n*1\r\n$4\r\nPING\r\nECHO \"a b\"\nPING\r\r\n";
    let expected = vec![
        words("PING 1"),
        words("PING"),
        vec![b"ECHO".to_vec(), b"a b".to_vec()],
        words("PING"),
    ];
    assert_eq!(decode_at_once(stream), (expected.clone(), None));
    let bytewise = decode_in_reads(stream, std::iter::repeat(1), &limits());
    assert_eq!(bytewise, (expected, None));
}

#[test]
fn line_ends_are_not_looked_at_closely() {
    let stream = b"*1\rX$4\rXPINGzz*1\r\n$4\r\nPING\r\n";
    assert_eq!(
        decode_at_once(stream),
        (vec![words("PING"), words("PING")], None)
    );
}

#[test]
fn a_declared_count_allocates_nothing() {
    let mut decoder = Decoder::new();
    let stream = b"*1000000000\r\n$3\r\nSET\r\n$100000000";
    assert_eq!(decoder.next(stream, &limits()), Ok(Status::Incomplete));
    assert!(decoder.slots.capacity() < 32);
    assert!(decoder.is_inside_request());
}

#[test]
fn large_arguments_are_received_apart() {
    let mut decoder = Decoder::new();
    let value = vec![b'v'; 40_000];
    let stream = encode(&[b"SET".to_vec(), b"k".to_vec(), value.clone()]);
    let before = encode(&words("GET a"));
    let mut input = BytesMut::from(&[before.as_slice(), &stream[..100]].concat()[..]);
    assert_eq!(decoder.next(&input, &limits()), Ok(Status::Request));
    let large = Ok(Status::Large { bytes: 40_000 });
    assert_eq!(decoder.next(&input, &limits()), large);
    decoder.release(&mut input);
    assert_eq!(decoder.next(&input, &limits()), large);
    let mut payload = decoder.begin_large(&mut input);
    assert_eq!(input.len(), decoder.position());
    payload.extend_from_slice(&value[payload.len()..]);
    decoder.supply(payload.freeze());
    assert_eq!(decoder.next(&input, &limits()), Ok(Status::Incomplete));
    input.extend_from_slice(b"\r\n");
    assert_eq!(decoder.next(&input, &limits()), Ok(Status::Request));
    let arguments = decoder.arguments(&input);
    assert_eq!(arguments.large(1), None);
    assert_eq!(arguments.large(2), Some(&Bytes::from(value)));
    assert_eq!(&arguments.tail(1)[0], b"k");
    let owned = arguments.to_owned();
    assert_eq!(copied(owned.as_arguments()), copied(arguments));
    decoder.release(&mut input);
    assert!(input.is_empty() && decoder.large.is_empty());
}

fn request() -> impl Strategy<Value = Request> {
    let part = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..12),
        2 => prop::collection::vec(any::<u8>(), 90..120),
        1 => prop::collection::vec(any::<u8>(), 990..1010),
        // Some larger than `small_limits` receives in place.
        1 => prop::collection::vec(any::<u8>(), 2000..3000),
    ];
    prop::collection::vec(part, 1..14)
}

fn small_limits() -> Limits {
    Limits {
        large_bytes: 2500,
        ..limits()
    }
}

/// Pieces of the protocol, well- and ill-formed, so that random streams come far.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "*1\r\n",
        "*2\r\n",
        "*0\r\n",
        "*-1\r\n",
        "$1\r\na\r\n",
        "$0\r\n\r\n",
        "$3\r\nabc\r\n",
        "\r\n",
        "\n",
        "PING\r\n",
        "$",
        "*",
        "1",
        "\r",
        "echo \"a\\x41\" 'b'\r\n",
        "\"",
        "$10\r\n0123456789\r\n",
        "*3",
        "$00\r\n",
        "x",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..25)
        .prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn any_split_gives_the_same_requests(
        requests in prop::collection::vec(request(), 0..9),
        reads in prop::collection::vec(1..400usize, 0..60),
        window in 1..6usize,
        batch in 1..9usize,
    ) {
        let stream: Vec<u8> = requests.iter().flat_map(|request| encode(request)).collect();
        prop_assert_eq!(decode_in_reads(&stream, [], &small_limits()), (requests.clone(), None));
        prop_assert_eq!(decode_in_reads(&stream, reads.clone(), &small_limits()), (requests.clone(), None));
        prop_assert_eq!(decode_ahead(&stream, reads, &small_limits(), window, batch), (requests, None));
    }

    #[test]
    fn any_split_of_anything_gives_the_same(
        stream in soup(),
        reads in prop::collection::vec(1..9usize, 0..60),
        window in 1..6usize,
        batch in 1..9usize,
    ) {
        let tiny = Limits { large_bytes: 5, max_inline_bytes: 12, max_bulk_bytes: 20, ..limits() };
        let expected = decode_in_reads(&stream, [], &tiny);
        prop_assert_eq!(decode_in_reads(&stream, reads.clone(), &tiny), expected.clone());
        prop_assert_eq!(decode_ahead(&stream, reads, &tiny, window, batch), expected);
    }

    #[test]
    fn random_bytes_do_not_panic(stream: Vec<u8>, reads in prop::collection::vec(1..9usize, 0..60)) {
        decode_in_reads(&stream, reads, &Limits::unauthenticated());
    }
}
