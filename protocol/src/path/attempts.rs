//! What was tried to reach a peer, so that a person who asks why gets an answer.

use super::punching::{Tactic, tactic};
use super::{Means, PeerPath, is_local};
use crate::io::{Attempt, Method, Outcome, Search};
use crate::peering::Path;
use crate::time::Moment;

/// Attempts remembered of one search.
const ATTEMPTS_MAX: usize = 8;
/// How long an attempt may be answered.
const OPEN_MS: u64 = 3000;

#[derive(Debug)]
struct Tried {
    at_ms: u64,
    method: Method,
    target: String,
    outcome: Outcome,
}

/// The newest search and what it tried.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    began_ms: u64,
    tried: Vec<Tried>,
}

impl Attempts {
    pub(super) fn begin(&mut self, at: u64) {
        self.began_ms = at;
        // What a run brought is told until there is another.
        self.tried.retain(|tried| tried.method.is_run());
    }

    fn add(&mut self, method: Method, target: String, outcome: Outcome, at: u64) {
        self.tried.retain(|tried| tried.method != method);
        if self.tried.len() < ATTEMPTS_MAX {
            self.tried.push(Tried {
                at_ms: at,
                method,
                target,
                outcome,
            });
        }
    }

    pub(super) fn begin_run(&mut self, method: Method, target: String, at: u64) {
        self.add(method, target, Outcome::Waiting, at);
    }

    pub(super) fn skip(&mut self, tactic: Tactic, allowed: bool, at: u64) {
        let outcome = match (tactic, allowed) {
            (Tactic::Hopeless, _) => Outcome::Hopeless,
            (Tactic::Plain, _) => return,
            (Tactic::Foretell | Tactic::Wait | Tactic::Ports | Tactic::Sockets, _) => {
                Outcome::Forbidden
            }
        };
        self.add(Method::Birthday, String::new(), outcome, at);
    }

    pub(super) fn end_run(&mut self, found: bool) {
        for tried in self.tried.iter_mut().filter(|tried| tried.method.is_run()) {
            if tried.outcome == Outcome::Waiting {
                tried.outcome = if found {
                    Outcome::Found
                } else {
                    Outcome::NoAnswer
                };
            }
        }
    }
}

impl PeerPath {
    pub(super) fn note_call(&mut self, at: u64) {
        let relays = self.candidates.iter().map(|(path, _)| path);
        let relays = relays.filter(|path| path.remote().is_none()).count();
        let target = format!("by {relays} relays");
        let attempts = &mut self.effort().attempts;
        let again = attempts.tried.iter().any(|t| t.method == Method::Call);
        if !again {
            attempts.add(Method::Call, target, Outcome::Waiting, at);
        }
    }

    pub(super) fn note_answer(&mut self, path: &Path, now: Moment) {
        let Some(effort) = &mut self.effort else {
            return;
        };
        let attempts = &mut effort.attempts;
        let done = attempts.tried.iter().any(|t| t.outcome == Outcome::Found);
        if path.remote().is_some() && !done && attempts.began_ms + OPEN_MS > now.uptime_ms() {
            let target = path.remote().map_or_else(String::new, |r| r.to_string());
            attempts.add(Method::Found, target, Outcome::Found, now.uptime_ms());
        }
    }

    /// What the newest search tried, and when the next one is; `None` while the way is dormant or was never looked for.
    #[must_use]
    pub fn search_report(&self, means: &Means, now: Moment) -> Option<Search> {
        let effort = self.effort.as_deref()?;
        let searched_ms = effort.searched_ms?;
        let at = now.uptime_ms();
        let since = |ms: u64| ms.saturating_sub(searched_ms);
        let mut attempts = vec![self.tried_candidates(searched_ms)];
        attempts.extend(effort.attempts.tried.iter().map(|tried| Attempt {
            at_ms: since(tried.at_ms),
            method: tried.method,
            target: tried.target.clone(),
            outcome: match tried.outcome {
                Outcome::Waiting if tried.at_ms + OPEN_MS <= at => Outcome::NoAnswer,
                Outcome::Waiting
                | Outcome::NoAnswer
                | Outcome::Found
                | Outcome::Hopeless
                | Outcome::Forbidden => tried.outcome,
            },
        }));
        attempts.sort_by_key(|attempt| attempt.at_ms);
        let their_nat = effort.punching.their_nat().unwrap_or_default();
        Some(Search {
            began_ms: at.saturating_sub(searched_ms),
            attempts,
            next_ms: effort.retry_ms.map(|ms| ms.saturating_sub(at)),
            own_nat: means.nat,
            their_nat,
            hopeless: tactic(means.guess(), their_nat) == Tactic::Hopeless,
            running: self.searches(),
        })
    }

    fn tried_candidates(&self, searched_ms: u64) -> Attempt {
        let direct = || self.candidates.iter().filter(|(p, _)| p.remote().is_some());
        let local = |path: &&Path| path.remote().is_some_and(|remote| is_local(&remote));
        let (all, lan) = (
            direct().count(),
            direct().map(|(p, _)| p).filter(local).count(),
        );
        let answered = |ms: Option<u64>| ms.is_some_and(|ms| ms >= searched_ms);
        let found = direct().any(|(_, known)| answered(known.answered_ms));
        let outcome = match (found, self.searches()) {
            (true, _) => Outcome::Found,
            (false, true) => Outcome::Waiting,
            (false, false) => Outcome::NoAnswer,
        };
        Attempt {
            at_ms: 0,
            method: Method::Candidates,
            target: format!("{all}, {lan} of them local"),
            outcome,
        }
    }
}
