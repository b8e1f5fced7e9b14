//! Which calls are let in, how long they have, and how they end.

use crate::metrics::{Method, MethodEnd, Metrics, Raised};
use crate::options::ServeArgs;
use crate::read::{Call, Failure};
use crate::request_id::RequestId;
use crate::store::StoreError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::metadata::MetadataMap;
use tonic::{Code, Response, Status};

/// The bounds on calls.
pub struct Gate {
    requests: Arc<Semaphore>,
    keys: Arc<Semaphore>,
    keys_per_request_max: usize,
    deadline: Duration,
    metrics: Arc<Metrics>,
}

/// A call that was let in. Dropping it ends it: what it held is given back, and it counts as cancelled when it was not run.
pub struct Admission {
    method: &'static str,
    call: Call,
    begun: Instant,
    time: Duration,
    ended: bool,
    metrics: Arc<Metrics>,
    _in_flight: Raised,
    _request: OwnedSemaphorePermit,
    _keys: Option<OwnedSemaphorePermit>,
}

impl Gate {
    /// With the bounds of these options.
    pub fn new(options: &ServeArgs, metrics: Arc<Metrics>) -> Gate {
        Gate {
            requests: Arc::new(Semaphore::new(options.requests_max)),
            keys: Arc::new(Semaphore::new(options.keys_max)),
            keys_per_request_max: options.keys_per_request_max,
            deadline: Duration::from_millis(options.deadline_ms),
            metrics,
        }
    }

    /// Lets a call in that asks for `keys` keys, before any work begins, or says which bound it met.
    pub fn admit(
        &self,
        method: &'static str,
        keys: usize,
        headers: &MetadataMap,
    ) -> Result<Admission, Status> {
        self.metrics.keys.get_or_create(&Method { method }).inc_by(keys as u64);
        self.metrics.keys_per_request.get_or_create(&Method { method }).observe(keys as f64);
        if keys > self.keys_per_request_max {
            let most = self.keys_per_request_max;
            let words =
                format!("{keys} keys in one call, at most {most} (--keys-per-request-max): do not retry");
            return Err(self.refuse(method, "keys-per-request-max", words));
        }
        let Ok(request) = self.requests.clone().try_acquire_owned() else {
            return Err(self.refuse(
                method,
                "requests-max",
                "too many calls under way (--requests-max)".into(),
            ));
        };
        let permits = u32::try_from(keys).unwrap_or(u32::MAX);
        let keys = match permits {
            0 => None,
            permits => match self.keys.clone().try_acquire_many_owned(permits) {
                Ok(held) => Some(held),
                Err(_) => {
                    let words = "too many keys under way (--keys-max)".into();
                    return Err(self.refuse(method, "keys-max", words));
                }
            },
        };
        let id = headers.get("traceparent").and_then(|value| RequestId::of_traceparent(value.to_str().ok()?));
        let asked = headers.get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?));
        let time = asked.map_or(self.deadline, |asked| asked.min(self.deadline));
        Ok(Admission {
            method,
            call: Call::new(id),
            begun: Instant::now(),
            // tonic counts the same time and says CANCELLED when it is over: a little earlier says what it was.
            time: time.saturating_sub((time / 20).clamp(Duration::from_millis(1), Duration::from_millis(20))),
            ended: false,
            metrics: self.metrics.clone(),
            _in_flight: Raised::new(&self.metrics.in_flight),
            _request: request,
            _keys: keys,
        })
    }

    fn refuse(&self, method: &'static str, bound: &'static str, words: String) -> Status {
        self.metrics.count_bound(bound);
        self.metrics.requests.get_or_create(&MethodEnd { method, code: "resource_exhausted" }).inc();
        Status::resource_exhausted(words)
    }
}

impl Admission {
    /// What storage must know of it.
    pub fn call(&self) -> Call {
        self.call.clone()
    }

    /// Runs the call until its deadline. Dropping this cancels it, and what it waits for.
    pub async fn run<A>(
        mut self,
        work: impl Future<Output = Result<A, Failure>>,
    ) -> Result<Response<A>, Status> {
        let answer = match tokio::time::timeout(self.time, work).await {
            Ok(Ok(answer)) => Ok(Response::new(answer)),
            Ok(Err(failure)) => Err(status(&failure)),
            Err(_) => Err(Status::deadline_exceeded("the call's time is over")),
        };
        self.ended = true;
        self.count(answer.as_ref().err().map_or("ok", |status| name(status.code())));
        answer
    }

    fn count(&self, code: &'static str) {
        let method = self.method;
        self.metrics.requests.get_or_create(&MethodEnd { method, code }).inc();
        self.metrics.seconds.get_or_create(&Method { method }).observe(self.begun.elapsed().as_secs_f64());
    }
}

/// The code of a failure. UNAVAILABLE is not among them: it would be sent three more times.
fn status(failure: &Failure) -> Status {
    let code = match failure {
        Failure::Store(StoreError::Overloaded(_)) => Code::ResourceExhausted,
        Failure::Store(StoreError::Slow) => Code::DeadlineExceeded,
        Failure::Store(StoreError::Failed(_)) | Failure::Ended => Code::Internal,
        Failure::Invalid(_) => Code::InvalidArgument,
        Failure::NotFound(_) => Code::NotFound,
    };
    Status::new(code, failure.to_string())
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::InvalidArgument => "invalid_argument",
        Code::NotFound => "not_found",
        Code::ResourceExhausted => "resource_exhausted",
        Code::DeadlineExceeded => "deadline_exceeded",
        _ => "internal",
    }
}

/// A `grpc-timeout`: up to eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.ended {
            self.count("cancelled");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for bad in ["", "5", "m", "123456789S", "-1S", "5ü", "1.5S"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }
}
