//! A gate that splits by the preset's table, with a window for each call. Orders come from other tasks, as an engine's do.

use bytes::Bytes;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use weir_edge::{
    Body, BodyPlan, Call, Decision, End, Gate, Head, Opening, Order, PartFailed, Parts, Plan, Progress,
    Protocol, Reason, Refusal, Retries, Verdict,
};
use weir_rpc::table::preset;
use weir_rpc::{AnyCut, AnyMerge, Codec, ContentType, CutLimits, MergeError, SplitPlan, Table};

static TABLE: LazyLock<Table> = LazyLock::new(|| preset("bsky").expect("is there").load().expect("is good"));

/// Orders on their way, of one call.
const ORDERS: usize = 16;

/// What was asked and told.
#[derive(Debug, Default)]
pub struct Told {
    pub failed: Vec<(u32, PartFailed)>,
    pub merge_errors: Vec<MergeError>,
    pub ends: Vec<End>,
    pub reply_bytes: u64,
}

/// A retry budget that counts.
#[derive(Debug, Default)]
pub struct Again {
    pub left: AtomicU64,
    pub asked: AtomicU64,
}

impl Retries for Again {
    fn may_send_again(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let left = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok()
    }
}

#[derive(Clone)]
pub struct Splitting {
    pub chunk_keys: usize,
    pub window: u32,
    /// The call is ended by the gate before this part.
    pub ends_before: u32,
    pub told: Arc<Mutex<Told>>,
    /// Calls in parts that are not over.
    pub live: Arc<AtomicUsize>,
    pub again: Option<Arc<Again>>,
}

impl Splitting {
    pub fn new(chunk_keys: usize, window: u32) -> Splitting {
        let (told, live) = (Arc::default(), Arc::default());
        Splitting { chunk_keys, window, ends_before: u32::MAX, told, live, again: None }
    }

    pub fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("no panic")
    }

    pub fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }
}

impl Gate for Splitting {
    fn open(&self, head: &Head<'_>) -> Opening {
        let plan = TABLE.find(head.path).and_then(|method| method.split.clone());
        let kind = head.headers.get("content-type").and_then(|value| ContentType::parse(value.as_bytes()));
        let codec = kind.map_or(Codec::Other, |kind| kind.codec);
        let asked = Asked { gate: self.clone(), plan, protocol: head.protocol, codec };
        let mut plan = Plan::pass(head.method, Box::new(asked));
        (plan.body, plan.idempotent) = (BodyPlan::Hold, true);
        Opening::Pass(plan)
    }
}

struct Asked {
    gate: Splitting,
    plan: Option<Arc<SplitPlan>>,
    protocol: Protocol,
    codec: Codec,
}

impl Call for Asked {
    fn whole<'a>(&'a mut self, body: &'a Body) -> Decision<'a> {
        let verdict = match self.plan.clone().filter(|_| self.protocol.can_be_split()) {
            Some(plan) => self.cut(plan, body),
            None => Verdict::Admit,
        };
        Decision::Now(verdict)
    }

    fn retries(&self) -> Option<Arc<dyn Retries>> {
        self.gate.again.clone().map(|again| again as Arc<dyn Retries>)
    }

    fn reply_part(&mut self, part: &[u8]) {
        self.gate.told().reply_bytes += part.len() as u64;
    }

    fn end(&mut self, end: &End) {
        assert_eq!(self.gate.live(), 0, "the parts are over before the call");
        self.gate.told().ends.push(end.clone());
    }
}

impl Asked {
    fn cut(&self, plan: Arc<SplitPlan>, body: &Body) -> Verdict {
        let framed = if matches!(self.protocol, Protocol::Grpc | Protocol::GrpcWeb) { 5 } else { 0 };
        let mut message = Vec::with_capacity(body.len() as usize);
        body.parts().iter().for_each(|part| message.extend_from_slice(part));
        let message = Bytes::from(message).slice(framed..);
        let limits = CutLimits { chunk_keys: self.gate.chunk_keys, bytes_max: usize::MAX };
        let Ok(cut) = AnyCut::new(&plan, self.codec, &message, limits) else { return Verdict::Admit };
        let merge = Some(AnyMerge::new(&plan, &cut, usize::MAX));
        let (to, orders) = mpsc::channel(ORDERS);
        self.gate.live.fetch_add(1, Ordering::Relaxed);
        let mut window = Window { gate: self.gate.clone(), cut, message, merge, next: 0, to, orders };
        (0..self.gate.window).for_each(|_| window.start());
        Verdict::Split(Box::new(window))
    }
}

struct Window {
    gate: Splitting,
    cut: AnyCut,
    message: Bytes,
    merge: Option<AnyMerge<Bytes>>,
    next: u32,
    to: mpsc::Sender<Order>,
    orders: mpsc::Receiver<Order>,
}

impl Window {
    fn start(&mut self) {
        if (self.next as usize) < self.cut.len() {
            let order = match self.next == self.gate.ends_before {
                true => Order::End(Refusal::new(Reason::Limit, "it waited too long")),
                false => Order::Send(self.next),
            };
            let to = self.to.clone();
            // A call that is over takes no orders.
            tokio::spawn(async move { drop(to.send(order).await) });
            self.next += 1;
        }
    }

    fn wrong(&self, error: MergeError) -> Refusal {
        let refusal = Refusal::new(Reason::Merge, error.to_string());
        self.gate.told().merge_errors.push(error);
        refusal
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.gate.live.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Parts for Window {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Order> {
        match self.orders.poll_recv(context) {
            Poll::Ready(Some(order)) => Poll::Ready(order),
            _ => Poll::Pending,
        }
    }

    fn write(&mut self, part: u32) -> Bytes {
        let mut message = Vec::new();
        self.cut.write(part as usize, &self.message, &mut message);
        message.into()
    }

    fn answered(&mut self, part: u32, message: Bytes) -> Result<Progress, Refusal> {
        let merge = self.merge.as_mut().expect("not merged yet");
        match merge.add(part as usize, message) {
            Err(error) => Err(self.wrong(error)),
            Ok(()) if merge.missing() == 0 => Ok(Progress::Complete),
            Ok(()) => {
                self.start();
                Ok(Progress::More)
            }
        }
    }

    fn failed(&mut self, part: u32, why: PartFailed) {
        self.gate.told().failed.push((part, why));
    }

    fn merged(&mut self) -> Result<Bytes, Refusal> {
        let merge = self.merge.take().expect("once");
        merge.finish().map(Bytes::from).map_err(|error| self.wrong(error))
    }

    fn retries(&self, _part: u32) -> Option<Arc<dyn Retries>> {
        self.gate.again.clone().map(|again| again as Arc<dyn Retries>)
    }
}
