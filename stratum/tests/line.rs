//! The line codec, fed in pieces of every size.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use seam_stratum::LineScanner;
use seam_stratum::line::Opening;

/// Feeds `stream` in pieces and collects the lines, as a connection does.
fn collect(stream: &[u8], pieces: &[usize], limit: usize) -> Result<Vec<Vec<u8>>, Vec<Vec<u8>>> {
    let (mut scanner, mut buffer, mut lines) = (LineScanner::new(limit), Vec::new(), Vec::new());
    let (mut at, mut sizes) = (0, pieces.iter().cycle());
    while at < stream.len() {
        let to = (at + sizes.next().unwrap()).min(stream.len());
        buffer.extend_from_slice(&stream[at..to]);
        at = to;
        loop {
            match scanner.next(&buffer) {
                Err(_) => return Err(lines),
                Ok(None) => break,
                Ok(Some(found)) => {
                    lines.push(found.line.to_vec());
                    let consumed = found.consumed;
                    buffer.drain(..consumed);
                }
            }
        }
        assert!(buffer.len() <= limit + 1, "bytes pile up behind the limit");
    }
    Ok(lines)
}

proptest! {
    #[test]
    fn lines_come_out_whole_however_they_arrive(
        lines in proptest::collection::vec("[a-z{}\"]{0,30}", 0..20),
        crlf: bool,
        pieces in proptest::collection::vec(1usize..12, 1..10),
    ) {
        let end = if crlf { "\r\n" } else { "\n" };
        let stream: String = lines.iter().map(|line| format!("{line}{end}")).collect();
        let expected: Vec<Vec<u8>> = lines.iter().map(|line| line.clone().into_bytes()).collect();
        prop_assert_eq!(collect(stream.as_bytes(), &pieces, 30), Ok(expected));
    }

    #[test]
    fn overlong_line_ends_the_stream_after_the_good_ones(
        good in proptest::collection::vec("[a-z]{0,30}", 0..5),
        long in "[a-z]{31,200}",
    ) {
        let stream = format!("{}{long}\n", good.iter().map(|l| format!("{l}\n")).collect::<String>());
        let expected: Vec<Vec<u8>> = good.iter().map(|line| line.clone().into_bytes()).collect();
        for piece in [1, 7, stream.len()] {
            prop_assert_eq!(collect(stream.as_bytes(), &[piece], 30), Err(expected.clone()));
        }
    }

    #[test]
    fn any_bytes_are_scanned_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut scanner = LineScanner::new(64);
        let mut at = 0;
        while let Ok(Some(found)) = scanner.next(&bytes[at..]) {
            prop_assert!(found.consumed > 0);
            prop_assert!(!found.line.contains(&b'\n'));
            at += found.consumed;
        }
        let _ = Opening::detect(&bytes);
    }

    #[test]
    fn opening_never_changes_its_mind(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
        let mut told = Opening::Unknown;
        for len in 0..=bytes.len() {
            let now = Opening::detect(&bytes[..len]);
            prop_assert!(told == Opening::Unknown || now == told);
            told = now;
        }
        prop_assert!(bytes.len() < 8 || told != Opening::Unknown);
    }
}
