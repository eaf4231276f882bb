//! The wire: requests per decoded pipeline, replies per written one. Times are per 64 requests, or per reply.
//!
//! They do not show the socket, the copy from the kernel, or cold caches: all buffers are in L1.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, criterion_group, criterion_main};
use quoit::resp::decode::{Decoder, Limits, Status};
use quoit::resp::reply::{Output, Protocol, Reply};
use redis_protocol::resp2::decode::decode_range;

const PIPELINE: usize = 64;

fn pipeline(parts: &[&str]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", parts.len());
    for part in parts {
        request.push_str(&format!("${}\r\n{part}\r\n", part.len()));
    }
    request.repeat(PIPELINE).into_bytes()
}

fn pipelines() -> Vec<(&'static str, Vec<u8>)> {
    let value = "v".repeat(64);
    let mut mset = vec!["MSET"];
    mset.extend(["key:000000001234", "value:0123456789"].repeat(10));
    vec![
        ("get/64", pipeline(&["GET", "key:000000001234"])),
        ("set_64b/64", pipeline(&["SET", "key:000000001234", &value])),
        ("mset_x10/64", pipeline(&mset)),
    ]
}

fn decode(c: &mut Criterion) {
    let limits = Limits::authenticated(512 * 1024 * 1024);
    for (name, stream) in pipelines() {
        let mut decoder = Decoder::new();
        let mut input = BytesMut::with_capacity(stream.len());
        c.bench_function(&format!("decode/{name}"), |b| {
            b.iter(|| {
                input.extend_from_slice(&stream);
                let mut bytes = 0;
                while let Ok(Status::Request) = decoder.next(&input, &limits) {
                    let arguments = decoder.arguments(&input);
                    bytes += arguments[0].len() + black_box(&arguments[1]).len();
                }
                decoder.release(&mut input);
                bytes
            })
        });
        c.bench_function(&format!("decode_range/{name}"), |b| {
            b.iter(|| {
                let mut rest = black_box(stream.as_slice());
                let mut requests = 0;
                while let Ok(Some((frame, len))) = decode_range(rest) {
                    black_box(frame);
                    rest = &rest[len..];
                    requests += 1;
                }
                requests
            })
        });
    }
}

fn reply(c: &mut Criterion) {
    let mut output = Output::new();
    let mut bench = |name: &str, write: &dyn Fn(&mut Reply<'_>)| {
        c.bench_function(&format!("reply/{name}"), |b| {
            b.iter(|| {
                for _ in 0..PIPELINE {
                    write(&mut Reply::new(&mut output, Protocol::Resp2));
                }
                let bytes = output.len_bytes();
                output.advance(bytes);
                bytes
            })
        });
    };
    let value = [b'v'; 512];
    bench("bulk/64x64B", &|reply| reply.bulk(black_box(&value[..64])));
    bench("bulk/64x512B", &|reply| reply.bulk(black_box(&value)));
    bench("ok/64", &|reply| reply.ok());
    bench("integer/64", &|reply| reply.integer(black_box(123_456)));
    bench("double/64", &|reply| reply.double(black_box(1.25)));
    bench("deferred/64", &|reply| {
        let begun = reply.deferred();
        reply.integer(1);
        reply.set_array(begun, 1);
    });
}

criterion_group!(benches, decode, reply);
criterion_main!(benches);
