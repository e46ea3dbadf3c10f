//! What waits for one hook. It is bounded, and it never loses the last state of anything: if too much waits, changes that
//! undo each other are dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Subject;
use super::message::Message;

/// While fewer messages wait, none is dropped. More wait only if each is the only one of its subject.
pub(super) const WAITING_MAX: usize = 1000;

/// The messages for one hook, oldest first.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Notified when a message waits, and when no more will come.
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Arc<Message>>,
    /// How many of them each subject has.
    counts: HashMap<Subject, usize>,
    dropped: u64,
    is_closed: bool,
}

impl Queue {
    pub(super) fn push(&self, message: Arc<Message>) {
        self.lock().push(message);
        self.news.notify_one();
    }

    /// No more will come.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.news.notify_one();
    }

    /// The next message, and how many were dropped before it; `None`: no more will come.
    pub(super) async fn next(&self) -> Option<(Arc<Message>, u64)> {
        loop {
            {
                let mut waiting = self.lock();
                if let Some(message) = waiting.messages.pop_front() {
                    waiting.uncount(&message);
                    return Some((message, std::mem::take(&mut waiting.dropped)));
                }
                if waiting.is_closed {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    /// A poisoned lock is used anyway: the queue is whole at every moment.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, message: Arc<Message>) {
        let subject = subject(&message);
        if self.messages.len() < WAITING_MAX || !self.counts.contains_key(&subject) {
            *self.counts.entry(subject).or_default() += 1;
            self.messages.push_back(message);
            return;
        }
        let is_of_subject = |waits: &Arc<Message>| waits.subject() == message.subject();
        let Some(at) = self.messages.iter().rposition(is_of_subject) else { return };
        self.dropped += 1;
        let waits = &mut self.messages[at];
        // No report precedes a first state, so that the next one does not undo it.
        if waits.is_first() || waits.is_same_state(&message) {
            *waits = message;
        } else {
            self.dropped += 1;
            self.messages.remove(at);
            self.uncount(&message);
        }
    }

    fn uncount(&mut self, message: &Message) {
        let subject = subject(message);
        match self.counts.get_mut(&subject) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.counts.remove(&subject)),
        }
    }
}

fn subject(message: &Message) -> Subject {
    let (service, rip) = message.subject();
    (service.to_owned(), rip)
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{of_quorum, quorum};
    use super::*;
    use crate::health::{Cause, When};

    async fn all(queue: &Queue) -> (Vec<Message>, u64) {
        queue.close();
        let (mut messages, mut dropped) = (Vec::new(), 0);
        while let Some((message, before)) = queue.next().await {
            messages.push((*message).clone());
            dropped += before;
        }
        (messages, dropped)
    }

    /// As many as may wait: each of another virtual service.
    fn full() -> Queue {
        let queue = Queue::default();
        for number in 0..WAITING_MAX {
            queue.push(quorum(&number.to_string(), When::QuorumLost).into());
        }
        queue
    }

    #[tokio::test]
    async fn nothing_is_dropped_while_less_waits_than_may() {
        let queue = Queue::default();
        for number in 0..WAITING_MAX {
            let when = if number % 2 == 0 { When::QuorumLost } else { When::QuorumGained };
            queue.push(quorum("web", when).into());
        }
        let (messages, dropped) = all(&queue).await;
        assert_eq!((messages.len(), dropped), (WAITING_MAX, 0));
    }

    #[tokio::test]
    async fn a_state_that_nothing_follows_is_never_dropped() {
        let queue = full();
        queue.push(quorum("more", When::QuorumLost).into());
        let (messages, dropped) = all(&queue).await;
        assert_eq!((messages.len(), dropped), (WAITING_MAX + 1, 0));
        assert_eq!(messages[0], quorum("0", When::QuorumLost));
    }

    #[tokio::test]
    async fn changes_that_undo_each_other_are_dropped_if_too_much_waits() {
        let queue = full();
        queue.push(quorum("8", When::QuorumLost).into());
        queue.push(quorum("7", When::QuorumGained).into());
        // No longer full: "7" waits again.
        queue.push(quorum("7", When::QuorumLost).into());
        queue.push(quorum("7", When::QuorumGained).into());
        let (messages, dropped) = all(&queue).await;
        assert_eq!(dropped, 5);
        let of = |name: &str| messages.iter().filter(|it| it.subject() == (name, None)).count();
        assert_eq!([of("6"), of("7"), of("8"), messages.len()], [1, 0, 1, WAITING_MAX - 1]);
    }

    #[tokio::test]
    async fn a_first_state_is_followed_by_the_last_one() {
        let queue = full();
        queue.push(of_quorum("new", When::QuorumGained, Cause::Start).into());
        queue.push(quorum("new", When::QuorumLost).into());
        let (messages, dropped) = all(&queue).await;
        assert_eq!(dropped, 1);
        assert_eq!(messages.last(), Some(&quorum("new", When::QuorumLost)));
    }
}
