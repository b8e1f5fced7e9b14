//! The world that calls ask for: the accounts and posts of a list that `weir-dataplane world` prints. Which of them is asked
//! for follows from how popular it is: the most popular one twice as often as the second, three times as often as the third.

use crate::random::Random;
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;

/// Of so many keys one is of no record: deleted ones are asked for, too.
const ONE_OF_IS_MISSING: u32 = 30;
/// Lines of a list at the most; about 150 bytes of memory each.
const LINES_MAX: usize = 5_000_000;

/// Accounts and posts.
#[derive(Debug, Default)]
pub struct World {
    actors: Vec<Actor>,
    posts: Vec<Post>,
    /// Places in `posts`, the most popular first.
    popular: Vec<u32>,
}

/// An account.
#[derive(Debug)]
pub struct Actor {
    /// Its DID.
    pub did: String,
    /// Its handle.
    pub handle: String,
}

#[derive(Debug)]
struct Post {
    uri: String,
    cid: String,
}

/// A post that is asked for, or one that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    place: u32,
    there: bool,
}

impl Wanted {
    /// One that is not there.
    #[cfg(test)]
    pub fn missing(place: u32) -> Wanted {
        Wanted { place, there: false }
    }
}

impl World {
    /// Reads a list; popularity follows from the seed.
    ///
    /// # Errors
    /// When it cannot be read, or holds nothing to ask for.
    pub fn read(path: &Path, seed: u64) -> Result<World> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        World::parse(&text, seed).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str, seed: u64) -> Result<World> {
        let mut world = World::default();
        for (number, line) in text.lines().enumerate() {
            ensure!(number < LINES_MAX, "more than {LINES_MAX} lines");
            let mut fields = line.split('\t').map(str::to_owned);
            match (fields.next().as_deref(), fields.next(), fields.next(), fields.next()) {
                (Some("actor"), Some(did), Some(handle), None) => world.actors.push(Actor { did, handle }),
                (Some("post"), Some(uri), Some(cid), None) => world.posts.push(Post { uri, cid }),
                _ => bail!("line {}: neither an account nor a post", number + 1),
            }
        }
        ensure!(!world.actors.is_empty() && !world.posts.is_empty(), "no accounts, or no posts");
        world.popular = (0..world.posts.len() as u32).collect();
        let mut random = Random::new(seed);
        for last in (1..world.popular.len()).rev() {
            world.popular.swap(last, random.below(last as u32 + 1) as usize);
        }
        Ok(world)
    }

    /// How many posts there are.
    pub fn posts(&self) -> u32 {
        self.posts.len() as u32
    }

    /// Somebody, all alike.
    pub fn actor(&self, random: &mut Random) -> &Actor {
        &self.actors[random.below(self.actors.len() as u32) as usize]
    }

    /// A post by popularity, now and then one that is not there.
    pub fn popular(&self, random: &mut Random) -> Wanted {
        let rank = (self.posts.len() as f64).powf(random.unit()) as usize - 1;
        let place = self.popular[rank.min(self.popular.len() - 1)];
        Wanted { place, there: random.below(ONE_OF_IS_MISSING) != 0 }
    }

    /// The post at this place of the list, now and then one that is not there.
    pub fn at(&self, place: u32, random: &mut Random) -> Wanted {
        Wanted { place: place % self.posts(), there: random.below(ONE_OF_IS_MISSING) != 0 }
    }

    /// Its address; of one that is not there, an address like it.
    pub fn uri(&self, wanted: Wanted) -> String {
        let uri = &self.posts[wanted.place as usize].uri;
        if wanted.there {
            return uri.clone();
        }
        let (start, key) = uri.rsplit_once('/').unwrap_or((uri, ""));
        format!("{start}/{}", key.chars().rev().collect::<String>())
    }

    /// The name of its content; of one that is not there, none.
    pub fn cid(&self, wanted: Wanted) -> &str {
        if wanted.there { &self.posts[wanted.place as usize].cid } else { "" }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A world of ten accounts and a thousand posts.
    pub fn small() -> World {
        let actors = (0..10).map(|number| format!("actor\tdid:plc:{number}\tuser{number}.test\n"));
        let posts = (0..1_000)
            .map(|number| format!("post\tat://did:plc:1/app.bsky.feed.post/3k{number:04}\tcid{number}\n"));
        World::parse(&actors.chain(posts).collect::<String>(), 1).unwrap()
    }

    #[test]
    fn few_posts_get_most_of_the_calls_and_some_are_missing() {
        let (world, mut random) = (small(), Random::new(1));
        let mut counts = vec![0u32; 1_000];
        let mut missing = 0;
        for _ in 0..20_000 {
            let wanted = world.popular(&mut random);
            counts[wanted.place as usize] += 1;
            missing += u32::from(world.cid(wanted).is_empty());
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let tenth: u32 = counts[..100].iter().sum();
        assert!((12_000..16_000).contains(&tenth), "{tenth} of 20,000 for a tenth of the posts");
        assert!((400..1_000).contains(&missing), "{missing} missing");
        assert!(counts.iter().filter(|count| **count > 0).count() > 800);
    }

    #[test]
    fn what_is_not_there_has_an_address_of_its_own() {
        let world = small();
        let (here, gone) = (Wanted { place: 7, there: true }, Wanted { place: 7, there: false });
        assert_eq!(
            (world.uri(here).as_str(), world.cid(here)),
            ("at://did:plc:1/app.bsky.feed.post/3k0007", "cid7")
        );
        assert_eq!(
            (world.uri(gone).as_str(), world.cid(gone)),
            ("at://did:plc:1/app.bsky.feed.post/7000k3", "")
        );
    }

    #[test]
    fn a_list_of_something_else_is_refused() {
        for text in ["", "actor\ta\tb\n", "post\ta\n", "actor\ta\tb\nlike\tc\td\n"] {
            assert!(World::parse(text, 1).is_err(), "{text:?}");
        }
    }
}
