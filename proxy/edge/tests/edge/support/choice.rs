//! A gate that says which server each call goes to, and hears where it went and how servers stand.

use super::gate::Watching;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use weir_edge::{Body, BodyPlan, Call, Decision, End, Gate, Head, Opening, Plan, Retries, Verdict};
use weir_engine::settings::Address;

/// What it was told.
#[derive(Debug, Default)]
pub struct Heard {
    /// Where calls went instead.
    pub went: Vec<Address>,
    /// How servers stand.
    pub stand: Vec<(Address, bool)>,
}

#[derive(Clone)]
pub struct Choosing {
    pub watching: Watching,
    /// Whom it names first, and after a failure.
    pub first: Option<Address>,
    pub then: Option<Address>,
    pub heard: Arc<Mutex<Heard>>,
}

impl Choosing {
    pub fn new(first: &Address, then: &Address) -> Choosing {
        let watching = Watching::new(true);
        Choosing { watching, first: Some(first.clone()), then: Some(then.clone()), heard: Arc::default() }
    }

    /// One that names nobody.
    pub fn none() -> Choosing {
        Choosing { watching: Watching::new(true), first: None, then: None, heard: Arc::default() }
    }

    pub fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().expect("no panic")
    }

    /// What was last heard of a server.
    pub fn stands(&self, address: &Address) -> Option<bool> {
        self.heard().stand.iter().rev().find(|(own, _)| own == address).map(|(_, up)| *up)
    }
}

impl Gate for Choosing {
    fn open(&self, head: &Head<'_>) -> Opening {
        let call = Asked { gate: self.clone() };
        let mut plan = Plan::pass(head.method, Box::new(call));
        (plan.body, plan.idempotent) = (BodyPlan::Hold, true);
        Opening::Pass(plan)
    }

    fn server_is(&self, server: &Address, up: bool) {
        self.heard().stand.push((server.clone(), up));
    }
}

struct Asked {
    gate: Choosing,
}

impl Call for Asked {
    fn whole<'a>(&'a mut self, _body: &'a Body) -> Decision<'a> {
        Decision::Now(Verdict::Admit)
    }

    fn retries(&self) -> Option<Arc<dyn Retries>> {
        Some(Arc::new(Choice { gate: self.gate.clone(), tries: AtomicU64::new(0) }))
    }

    fn end(&mut self, end: &End) {
        self.gate.watching.asked().ends.push(end.clone());
    }
}

struct Choice {
    gate: Choosing,
    tries: AtomicU64,
}

impl Retries for Choice {
    fn may_send_again(&self) -> bool {
        self.tries.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn server(&self) -> Option<Address> {
        match self.tries.load(Ordering::Relaxed) {
            0 => self.gate.first.clone(),
            _ => self.gate.then.clone(),
        }
    }

    fn went(&self, to: &Address) {
        self.gate.heard().went.push(to.clone());
    }
}
