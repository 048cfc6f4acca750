//! Messages read and written.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use seam_stratum::write::{self, SubmitParams};
use seam_stratum::{Difficulty, FromServer, Id, Incoming, LineScanner, Nonce2, Reject};

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    for (name, line) in [
        (
            "submit, plain",
            r#"{"params": ["alice.rig1", "3000009", "0000000000000001", "6553f100", "12345678", "00002000"], "id": 4, "method": "mining.submit"}"#,
        ),
        (
            "submit, through serde_json",
            r#"{"params": ["alice\u002erig1", "3000009", "0000000000000001", "6553f100", "12345678", "00002000"], "id": 4, "method": "mining.submit"}"#,
        ),
        (
            "authorize",
            r#"{"id": 2, "method": "mining.authorize", "params": ["alice.rig1", "x,d=1"]}"#,
        ),
    ] {
        group.bench_function(name, |b| b.iter(|| Incoming::parse(black_box(line.as_bytes()))));
    }
    group.bench_function("answer, by a miner", |b| {
        let line = br#"{"id":4,"result":true,"error":null}"#;
        b.iter(|| FromServer::parse(black_box(line)));
    });
    group.bench_function("line of 130 bytes found", |b| {
        let buffer = [vec![b'x'; 129], vec![b'\n'; 1]].concat();
        let mut scanner = LineScanner::default();
        b.iter(|| scanner.next(black_box(&buffer)).is_ok());
    });
    group.finish();
}

fn written(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    let mut out = Vec::with_capacity(4096);
    let mut bench = |name: &str, write: &dyn Fn(&mut Vec<u8>)| {
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                write(black_box(&mut out));
            });
        });
    };
    bench("true", &|out| write::result_bool(out, Id::NULL, true));
    bench("reject", &|out| write::reject(out, Id::NULL, &Reject::HighHash));
    bench("set_difficulty", &|out| write::set_difficulty(out, Difficulty::ONE));
    bench("submit", &|out| {
        let params = SubmitParams {
            user: "alice.rig1",
            job: "3000009",
            nonce2: Nonce2::from_counter(1, 8),
            ntime: 0x6553_f100,
            nonce: 0x1234_5678,
            version_bits: Some(0x2000),
        };
        write::submit(out, 77, &params);
    });
    group.finish();
}

criterion_group!(benches, read, written);
criterion_main!(benches);
