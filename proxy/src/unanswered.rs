//! The lines of a session that no node has settled yet, in the order in which they came.

/// A queue of whole lines. What is at its front has been sent to a node, what is at its end may
/// not have been; a session without open requests keeps almost no memory for it.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    bytes: Vec<u8>,
    /// Where the first unsettled line begins.
    head: usize,
    /// Up to where a node has been sent the lines.
    sent: usize,
}

/// More capacity than this is given back when the queue is empty.
const KEEP: usize = 512;

impl Unanswered {
    /// Appends whole lines; `sent` if they are on their way to a node. Nothing may be sent while
    /// something before it is not.
    pub(crate) fn push(&mut self, lines: &[u8], sent: bool) {
        debug_assert!(lines.last() == Some(&b'\n'), "not whole lines");
        debug_assert!(!sent || self.unsent().is_empty(), "out of order");
        self.bytes.extend_from_slice(lines);
        if sent {
            self.sent = self.bytes.len();
        }
    }

    /// Drops the first `count` lines. `false` if there are not so many sent ones: the node
    /// counts wrong.
    pub(crate) fn settle(&mut self, count: u16) -> bool {
        for _ in 0..count {
            let open = &self.bytes[self.head..self.sent];
            let Some(end) = memchr::memchr(b'\n', open) else {
                return false;
            };
            self.head += end + 1;
        }
        if self.head == self.bytes.len() {
            self.bytes.clear();
            if self.bytes.capacity() > KEEP {
                self.bytes = Vec::new();
            }
            (self.head, self.sent) = (0, 0);
        } else if self.head > self.bytes.len() / 2 {
            self.bytes.drain(..self.head);
            self.sent -= self.head;
            self.head = 0;
        }
        true
    }

    /// The lines that a node has and did not settle.
    pub(crate) fn open(&self) -> &[u8] {
        &self.bytes[self.head..self.sent]
    }

    /// The lines that no node has.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Notes that a node now has all of them.
    pub(crate) fn all_sent(&mut self) {
        self.sent = self.bytes.len();
    }

    /// Bytes of all of them.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.head
    }

    /// Whether no node owes anything.
    pub(crate) fn is_settled(&self) -> bool {
        self.head == self.sent
    }

    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn settling_more_than_was_sent_is_noticed() {
        let mut queue = Unanswered::default();
        queue.push(b"a\n", true);
        queue.push(b"b\n", false);
        assert!(queue.settle(1));
        assert!(queue.is_settled());
        assert!(!queue.settle(1));
        queue.all_sent();
        assert!(queue.settle(1));
        assert_eq!(queue.len(), 0);
    }

    proptest! {
        #[test]
        fn lines_leave_in_order(steps in prop::collection::vec((0_u8..4, 0_usize..5), 0..200)) {
            let mut queue = Unanswered::default();
            let (mut sent, mut unsent) = (VecDeque::new(), VecDeque::new());
            for (next, (kind, count)) in steps.into_iter().enumerate() {
                let line = format!("{}{next}\n", "x".repeat(next * 7 % 90));
                match kind {
                    0 if unsent.is_empty() => {
                        queue.push(line.as_bytes(), true);
                        sent.push_back(line);
                    }
                    0 | 1 => {
                        queue.push(line.as_bytes(), false);
                        unsent.push_back(line);
                    }
                    2 => {
                        let count = count.min(sent.len());
                        prop_assert!(queue.settle(count as u16));
                        sent.drain(..count);
                    }
                    _ => {
                        queue.all_sent();
                        sent.append(&mut unsent);
                    }
                }
                let (open, rest): (Vec<_>, Vec<_>) =
                    (sent.iter().cloned().collect(), unsent.iter().cloned().collect());
                prop_assert_eq!(queue.open().to_vec(), open.concat().into_bytes());
                prop_assert_eq!(queue.unsent().to_vec(), rest.concat().into_bytes());
                prop_assert_eq!(queue.is_settled(), sent.is_empty());
            }
        }
    }
}
