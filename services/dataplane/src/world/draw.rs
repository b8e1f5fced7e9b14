//! Everything in a world is a function of the seed and of what it is: nothing is remembered, so that any part can be made
//! again. Only integers and square roots are used, which are the same on every machine.

/// A world's numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shape {
    /// What it is drawn from.
    pub seed: u64,
    /// Accounts.
    pub users: u64,
    /// Threads per account, in the mean.
    pub posts: u64,
    /// Follows per account, in the mean.
    pub follows: u64,
    /// Likes per post, in the mean.
    pub likes: u64,
}

/// What a draw is about, so that no two draws are the same one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "as they say")]
pub enum About {
    Did,
    Follows,
    Followed,
    Threads,
    ThreadTime,
    Replies,
    ReplyAuthor,
    ReplyParent,
    ReplyTime,
    Likes,
    Likers,
    Embed,
}

impl Shape {
    /// The name of the world in `seed_progress`.
    pub fn name(&self) -> String {
        let Shape { seed, users, posts, follows, likes } = self;
        format!("{seed}/{users}/{posts}/{follows}/{likes}")
    }

    /// 64 bits about this.
    pub fn draw(&self, about: About, of: &[u64]) -> u64 {
        let mut state = mix(self.seed ^ ((about as u64 + 1) << 56));
        for number in of {
            state = mix(state ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        state
    }

    /// A number of things whose mean is about `mean`, at most `most`: half of them are below 0.7 of the mean, one of 10,000
    /// is 50 times as much (a power law with exponent 2).
    pub fn many(&self, about: About, of: &[u64], mean: u64, most: u64) -> u64 {
        if mean == 0 {
            return 0;
        }
        let unit = ((self.draw(about, of) >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let number = (mean as f64 / 2.0) / unit.sqrt();
        (number as u64).min(most).min(mean.saturating_mul(100))
    }

    /// An account: the first ones far more often than the last.
    pub fn somebody(&self, about: About, of: &[u64]) -> u64 {
        let unit = (self.draw(about, of) >> 11) as f64 / (1u64 << 53) as f64;
        ((unit * unit * self.users as f64) as u64).min(self.users - 1)
    }

    /// The DID of an account.
    pub fn did(&self, user: u64) -> String {
        let bits = u128::from(self.draw(About::Did, &[user, 1])) << 64
            | u128::from(self.draw(About::Did, &[user, 2]));
        format!("did:plc:{}", base32(bits, 24, b"abcdefghijklmnopqrstuvwxyz234567"))
    }
}

/// The handle of an account.
pub fn handle(user: u64) -> String {
    format!("user{user}.weir.test")
}

/// The name of a record made at these microseconds: 13 characters that sort as time does.
pub fn record_key(micros: u64) -> String {
    base32(u128::from(micros << 10), 13, b"234567abcdefghijklmnopqrstuvwxyz")
}

/// The name of a content, by its address.
pub fn content_name(uri: &str) -> String {
    let bytes = blake3::hash(uri.as_bytes());
    let (high, low) = bytes.as_bytes().split_at(16);
    let number = |half: &[u8]| half.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    let alphabet = b"abcdefghijklmnopqrstuvwxyz234567";
    format!("bafyrei{}{}", base32(number(high), 26, alphabet), base32(number(low), 26, alphabet))
}

fn base32(mut bits: u128, digits: usize, alphabet: &[u8; 32]) -> String {
    let mut text = vec![0; digits];
    for digit in text.iter_mut().rev() {
        *digit = alphabet[(bits & 31) as usize];
        bits >>= 5;
    }
    text.into_iter().map(char::from).collect()
}

fn mix(mut state: u64) -> u64 {
    state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { seed: 7, users: 10_000, posts: 10, follows: 20, likes: 5 };

    #[test]
    fn a_world_is_always_the_same_and_another_seed_makes_another() {
        assert_eq!(SHAPE.did(3), SHAPE.did(3));
        assert_ne!(SHAPE.did(3), SHAPE.did(4));
        assert_ne!(SHAPE.did(3), Shape { seed: 8, ..SHAPE }.did(3));
        assert_eq!(SHAPE.did(3).len(), "did:plc:".len() + 24);
    }

    #[test]
    fn degrees_follow_a_power_law() {
        let mut degrees: Vec<u64> =
            (0..10_000).map(|user| SHAPE.many(About::Follows, &[user], 20, 9_999)).collect();
        degrees.sort_unstable();
        let mean = degrees.iter().sum::<u64>() / 10_000;
        assert!((17..=22).contains(&mean), "mean {mean}");
        assert!((10..=15).contains(&degrees[5_000]), "median {}", degrees[5_000]);
        assert!(degrees[9_990] > 200, "the 0.1 % with the most {}", degrees[9_990]);
        let first = (0..10_000).filter(|draw| SHAPE.somebody(About::Followed, &[*draw]) < 1_000).count();
        assert!((2_900..3_500).contains(&first), "{first} of 10,000 for the first tenth");
    }

    #[test]
    fn keys_sort_as_time_does() {
        let keys: Vec<String> = [1, 2, 1_767_225_600_000_000, 1_767_225_600_000_001].map(record_key).to_vec();
        assert!(keys.is_sorted() && keys.iter().all(|key| key.len() == 13), "{keys:?}");
    }
}
