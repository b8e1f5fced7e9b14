//! The machine itself: kernel, lockdown, and the capabilities that are held now. Needs no right.

use super::Source;
use crate::host::Host;
use crate::kernel::connects::Feed;
use crate::picture::Picture;
use crate::settings::Settings;

pub(super) const NAME: &str = "machine";

struct Machine;

pub(super) fn make(_: &Settings, _: &mut Option<Feed>) -> Box<dyn Source> {
    Box::new(Machine)
}

impl Source for Machine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn look(&mut self, picture: &mut Picture) {
        picture.host = Some(Host::read());
    }
}
