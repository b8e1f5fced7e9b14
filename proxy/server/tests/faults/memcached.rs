//! The real memcached with one thread: killed, stopped, started again.

use crate::client::Client;
use crate::e2e;
use crate::e2e::place::Place;

/// The real memcached.
pub struct Memcached(e2e::Memcached);

impl Memcached {
    /// `None`, and says so, where memcached is not installed.
    pub fn start(tcp: bool, what: &str, more: &[&str]) -> Option<Memcached> {
        e2e::Memcached::start_at(tcp, what, &[&["-t", "1", "-c", "1024"], more].concat()).map(Memcached)
    }

    pub fn place(&self) -> &Place {
        self.0.place()
    }

    pub fn client(&self) -> Client {
        Client::connect(self.place())
    }

    /// A number of `stats`.
    pub fn stat(&self, name: &str) -> u64 {
        self.0.stat(name, None)
    }

    pub fn kill(&mut self) {
        self.0.stop();
    }

    /// As it was, empty.
    pub fn restart(&mut self) {
        self.0.restart();
    }

    /// It answers no more until [`Memcached::go_on`].
    pub fn stop(&self) {
        self.0.freeze(true);
    }

    pub fn go_on(&self) {
        self.0.freeze(false);
    }
}
