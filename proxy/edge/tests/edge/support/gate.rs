//! A gate that holds bodies, remembers what it was asked, and refuses what the test tells it to.

use std::sync::{Arc, Mutex};
use weir_edge::{
    Body, BodyPlan, Call, Decision, End, Gate, Head, Opening, Outcome, Plan, Reason, Refusal, Verdict,
};

/// What a gate was asked and told.
#[derive(Debug, Default)]
pub struct Asked {
    pub heads: Vec<String>,
    pub traces: Vec<String>,
    pub callers: Vec<Option<String>>,
    pub bodies: Vec<u64>,
    pub ends: Vec<End>,
    /// Requests that were to be answered without the service.
    pub kept: u64,
}

#[derive(Clone)]
pub struct Watching {
    pub asked: Arc<Mutex<Asked>>,
    /// Bodies are held.
    pub holds: bool,
    /// Bodies above this are refused once they are there.
    pub most: u64,
    /// A method may be sent again.
    pub idempotent: bool,
    /// The service sees the caller's name.
    pub trusts: bool,
}

impl Watching {
    pub fn new(holds: bool) -> Watching {
        Watching { asked: Arc::default(), holds, most: u64::MAX, idempotent: false, trusts: false }
    }

    pub fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().expect("no panic")
    }

    pub fn outcomes(&self) -> Vec<Outcome> {
        self.asked().ends.iter().map(|end| end.outcome).collect()
    }
}

impl Gate for Watching {
    fn open(&self, head: &Head<'_>) -> Opening {
        let mut asked = self.asked();
        asked.heads.push(format!("{} {}", head.protocol.name(), head.path));
        asked.traces.push(head.trace.to_string());
        let caller = head.headers.get("x-weir-caller");
        asked.callers.push(caller.map(|name| name.to_str().expect("text").to_owned()));
        if head.path.contains("Denied") {
            let refusal = Refusal::new(Reason::Limit, "this method is switched off");
            return Opening::Refuse(refusal.retry_after(std::time::Duration::from_secs(30)));
        }
        let mut plan = Plan::pass(head.method, Box::new(Counting { gate: self.clone(), parts: 0 }));
        plan.body = if self.holds { BodyPlan::Hold } else { BodyPlan::Stream };
        plan.idempotent |= self.idempotent;
        plan.trusts_caller = self.trusts;
        Opening::Pass(plan)
    }
}

struct Counting {
    gate: Watching,
    parts: u64,
}

impl Call for Counting {
    fn part(&mut self, part: &[u8]) -> Result<(), Refusal> {
        self.parts += part.len() as u64;
        Ok(())
    }

    fn whole<'a>(&'a mut self, body: &'a Body) -> Decision<'a> {
        assert_eq!(self.parts, body.len(), "each part was shown");
        self.gate.asked().bodies.push(body.len());
        let verdict = if body.len() > self.gate.most {
            let message = format!("{} bytes are too many", body.len());
            Verdict::Refuse(Refusal::new(Reason::Limit, message))
        } else {
            Verdict::Admit
        };
        Decision::Now(verdict)
    }

    fn kept(&mut self) -> Decision<'_> {
        self.gate.asked().kept += 1;
        Decision::Now(Verdict::Admit)
    }

    fn end(&mut self, end: &End) {
        self.gate.asked().ends.push(end.clone());
    }
}
