//! What an AppView asks its data plane for, page by page: how many RPCs one call of a user becomes, and how many keys, as they
//! were counted between the real AppView and its data plane (largest batch of an ordinary page: 263 keys). Layers follow each
//! other, the calls of one layer are under way together. How the keys of a page are divided among the smaller methods is an
//! approximation; their sum is not.

use super::methods::Method::{self, *};
use crate::random::Random;

/// Keys of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// So many.
    Of(u32),
    /// As the posts of this page are drawn ([`posts`]), once per page, times so many.
    Posts(u32),
}

use Size::{Of, Posts};

/// Calls that are under way together.
type Layer = &'static [(Method, Size)];

/// A call of a user.
#[derive(Debug)]
pub struct Page {
    /// As the API calls it.
    pub name: &'static str,
    /// Of a hundred calls so many.
    pub percent: u32,
    /// What it asks for.
    pub layers: &'static [Layer],
}

/// The mix.
pub const PAGES: &[Page] = &[
    Page {
        name: "getTimeline 50",
        percent: 22,
        layers: &[
            &[(GetIdentityByDid, Of(1)), (GetLatestRev, Of(1))],
            &[(GetTimeline, Of(50))],
            &[(GetPostRecords, Of(50))],
            &[(GetPostRecords, Of(20))],
            &[(GetPostRecords, Of(36))],
            &[
                (GetInteractionCounts, Of(113)),
                (GetLikesByActorAndSubjects, Of(113)),
                (GetRepostsByActorAndSubjects, Of(113)),
                (GetBookmarksByActorAndSubjects, Of(113)),
                (GetThreadMutesOnSubjects, Of(50)),
                (GetThreadGateRecords, Of(30)),
                (GetLabels, Of(80)),
                (GetActors, Of(60)),
                (GetRelationships, Of(50)),
                (GetBlockExistence, Of(40)),
                (GetLabelerRecords, Of(2)),
            ],
        ],
    },
    Page {
        name: "getTimeline 100",
        percent: 3,
        layers: &[
            &[(GetIdentityByDid, Of(1)), (GetLatestRev, Of(1))],
            &[(GetTimeline, Of(100))],
            &[(GetPostRecords, Of(100))],
            &[(GetPostRecords, Of(120))],
            &[(GetPostRecords, Of(27))],
            &[
                (GetInteractionCounts, Of(263)),
                (GetLikesByActorAndSubjects, Of(263)),
                (GetRepostsByActorAndSubjects, Of(263)),
                (GetBookmarksByActorAndSubjects, Of(263)),
                (GetThreadMutesOnSubjects, Of(100)),
                (GetThreadGateRecords, Of(60)),
                (GetLabels, Of(150)),
                (GetActors, Of(80)),
                (GetRelationships, Of(70)),
                (GetBlockExistence, Of(60)),
                (GetLabelerRecords, Of(2)),
            ],
        ],
    },
    Page {
        name: "getPosts",
        percent: 15,
        layers: &[
            &[(GetPostRecords, Posts(1))],
            &[
                (GetInteractionCounts, Posts(1)),
                (GetLikesByActorAndSubjects, Posts(1)),
                (GetRepostsByActorAndSubjects, Posts(1)),
                (GetBookmarksByActorAndSubjects, Posts(1)),
                (GetThreadMutesOnSubjects, Posts(1)),
                (GetThreadGateRecords, Of(4)),
                (GetActors, Posts(1)),
                (GetLabels, Of(20)),
                (GetBlockExistence, Of(4)),
            ],
        ],
    },
    Page {
        name: "getPostThread",
        percent: 10,
        layers: &[
            &[(GetIdentityByDid, Of(1)), (GetThread, Of(6))],
            &[(GetPostRecords, Of(12))],
            &[(GetPostRecords, Of(3))],
            &[
                (GetInteractionCounts, Of(15)),
                (GetLikesByActorAndSubjects, Of(15)),
                (GetRepostsByActorAndSubjects, Of(15)),
                (GetBookmarksByActorAndSubjects, Of(15)),
                (GetThreadMutesOnSubjects, Of(12)),
                (GetThreadGateRecords, Of(1)),
                (GetLabels, Of(24)),
                (GetActors, Of(10)),
                (GetRelationships, Of(4)),
                (GetBlockExistence, Of(3)),
            ],
        ],
    },
    Page {
        name: "getProfiles",
        percent: 20,
        layers: &[
            &[(GetDidsByHandles, Of(5))],
            &[
                (GetActors, Of(20)),
                (GetCountsForUsers, Of(20)),
                (GetRelationships, Of(20)),
                (GetBlockExistence, Of(20)),
                (GetFollowsFollowing, Of(5)),
                (GetActivitySubscriptionsByActorAndSubjects, Of(5)),
                (GetLabels, Of(10)),
                (GetLabelerRecords, Of(1)),
            ],
        ],
    },
    Page {
        name: "listNotifications",
        percent: 15,
        layers: &[
            &[(GetIdentityByDid, Of(1)), (GetNotificationSeen, Of(1)), (GetNotifications, Of(50))],
            &[(GetPostRecords, Of(25)), (GetActors, Of(40)), (GetLabels, Of(48))],
            &[(GetRelationships, Of(20)), (GetBlockExistence, Of(20))],
        ],
    },
    Page {
        name: "getAuthorFeed",
        percent: 10,
        layers: &[
            &[(GetIdentityByDid, Of(1)), (GetActors, Of(1)), (GetLatestRev, Of(1))],
            &[(GetAuthorFeed, Of(50))],
            &[(GetPostRecords, Of(50))],
            &[(GetPostRecords, Of(8))],
            &[
                (GetInteractionCounts, Of(60)),
                (GetLikesByActorAndSubjects, Of(60)),
                (GetRepostsByActorAndSubjects, Of(60)),
                (GetBookmarksByActorAndSubjects, Of(60)),
                (GetThreadMutesOnSubjects, Of(20)),
                (GetThreadGateRecords, Of(10)),
                (GetLabels, Of(30)),
                (GetActors, Of(20)),
                (GetRelationships, Of(10)),
            ],
        ],
    },
    Page {
        name: "getFollowers",
        percent: 5,
        layers: &[
            &[(GetActors, Of(1)), (GetFollowers, Of(100))],
            &[
                (GetActors, Of(25)),
                (GetRelationships, Of(25)),
                (GetLabels, Of(24)),
                (GetBlockExistence, Of(24)),
            ],
        ],
    },
];

/// One of them.
pub fn draw(random: &mut Random) -> &'static Page {
    let mut left = random.below(100);
    for page in PAGES {
        match left.checked_sub(page.percent) {
            Some(less) => left = less,
            None => return page,
        }
    }
    &PAGES[0]
}

/// Posts of a page of getPosts: one to 50 for all but a few, hundreds now and then.
pub fn posts(random: &mut Random) -> u32 {
    match random.below(10_000) {
        0..2_500 => 1,
        2_500..5_500 => random.between(2, 10),
        5_500..7_500 => random.between(11, 25),
        7_500..9_200 => random.between(26, 50),
        9_200..9_945 => random.between(51, 120),
        9_945..9_995 => random.between(121, 260),
        _ => random.between(261, 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RPCs and their keys; `lines` of feeds are no keys.
    fn cost(page: &Page) -> (usize, u32) {
        let calls = page.layers.iter().copied().flatten();
        let keys = calls.clone().map(|(method, size)| match (method, size) {
            (GetTimeline | GetAuthorFeed | GetFollowers | GetNotifications | GetThread, _) => 0,
            (GetIdentityByDid | GetLatestRev | GetNotificationSeen, _) => 0,
            (_, Of(keys)) => *keys,
            (_, Posts(times)) => 25 * times,
        });
        (calls.clone().count(), keys.sum())
    }

    #[test]
    fn pages_cost_what_was_counted() {
        assert_eq!(PAGES.iter().map(|page| page.percent).sum::<u32>(), 100);
        // RPCs of 0.0.280 and 0.0.221; keys of both.
        for (name, calls, keys) in [
            ("getTimeline 50", 17..=20, 689..=878),
            ("getTimeline 100", 17..=20, 1_494..=1_828),
            ("getPosts", 10..=13, 174..=203),
            ("getPostThread", 14..=17, 129..=162),
            ("getProfiles", 9..=9, 105..=236),
            ("listNotifications", 8..=11, 153..=153),
            ("getAuthorFeed", 15..=22, 257..=389),
            ("getFollowers", 6..=7, 99..=99),
        ] {
            let page = PAGES.iter().find(|page| page.name == name).expect(name);
            let (made, asked) = cost(page);
            assert!(calls.contains(&made) && keys.contains(&asked), "{name}: {made} RPCs, {asked} keys");
        }
    }

    #[test]
    fn half_of_the_batches_are_small_and_the_mean_is_twenty() {
        let mut random = Random::new(1);
        let sizes: Vec<u32> = (0..50_000).map(|_| posts(&mut random)).collect();
        let mean = sizes.iter().sum::<u32>() / 50_000;
        assert!((17..=24).contains(&mean), "mean {mean}");
        let small = sizes.iter().filter(|size| **size <= 10).count();
        assert!((27_000..28_000).contains(&small), "{small} of at most 10");
        assert!(sizes.iter().all(|size| (1..=1_000).contains(size)));
    }

    #[test]
    fn every_page_is_drawn() {
        let mut random = Random::new(1);
        for _ in 0..10_000 {
            assert!(draw(&mut random).percent > 0);
        }
        let timelines = (0..10_000).filter(|_| draw(&mut random).name.starts_with("getTimeline")).count();
        assert!((2_300..2_700).contains(&timelines), "{timelines}");
    }
}
