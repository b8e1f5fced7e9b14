use super::*;

const NOW: Now = 1_800_000_000;

fn set<'a>(key: &'a [u8], value: &'a [u8]) -> Write<'a> {
    Write { mode: Mode::Set, key, base64: false, value, flags: 0, expires: 0, compare: 0, invalidate: false }
}

fn value(store: &mut Store, key: &[u8], now: Now) -> Option<Vec<u8>> {
    store.find(key, now).map(|item| item.value.clone())
}

#[test]
fn modes_need_what_they_say() {
    let mut store = Store::new(1 << 20, NOW);
    let with = |mode| Write { mode, ..set(b"k", b"2") };
    for mode in [Mode::Append, Mode::Prepend, Mode::Replace] {
        assert_eq!(store.write(with(mode), NOW), Written::NotStored);
    }
    assert_eq!(store.write(with(Mode::CompareAndSet), NOW), Written::NotFound);
    assert!(matches!(store.write(with(Mode::Add), NOW), Written::Stored(_)));
    assert_eq!(store.write(with(Mode::Add), NOW), Written::NotStored);
    store.write(Write { value: b"3", ..with(Mode::Append) }, NOW);
    store.write(Write { value: b"1", ..with(Mode::Prepend) }, NOW);
    assert_eq!(value(&mut store, b"k", NOW).as_deref(), Some(&b"123"[..]));
    assert!(matches!(store.write(with(Mode::Replace), NOW), Written::Stored(_)));
    assert_eq!(value(&mut store, b"k", NOW).as_deref(), Some(&b"2"[..]));
}

#[test]
fn cas_numbers_guard_writes_and_change_with_each() {
    let mut store = Store::new(1 << 20, NOW);
    let Written::Stored(first) = store.write(set(b"k", b"1"), NOW) else { panic!("stored") };
    let cas = |compare| Write { mode: Mode::CompareAndSet, compare, ..set(b"k", b"2") };
    assert_eq!(store.write(cas(first + 100), NOW), Written::Exists);
    let Written::Stored(second) = store.write(cas(first), NOW) else { panic!("stored") };
    assert!(second > first);
    assert_eq!(store.write(cas(first), NOW), Written::Exists);
    assert_eq!(store.write(cas(0), NOW), Written::Exists);
    let late = Write { invalidate: true, expires: NOW + 5, ..cas(first) };
    assert!(matches!(store.write(late, NOW), Written::Stored(_)));
    let item = store.find(b"k", NOW).expect("stored");
    assert!(item.stale && item.expires == 0, "an overtaken write keeps the time to live");
}

#[test]
fn numbers_wrap_up_stop_at_zero_and_keep_their_width() {
    let mut store = Store::new(1 << 20, NOW);
    store.write(Write { flags: 7, expires: NOW + 50, ..set(b"n", b"99") }, NOW);
    assert_eq!(store.arithmetic(b"n", Delta::Up(1), 0, NOW), Arithmetic::Number(100));
    let item = store.find(b"n", NOW).expect("stored");
    assert_eq!((item.flags, item.expires), (7, NOW + 50));
    assert_eq!(store.arithmetic(b"n", Delta::Down(50), 0, NOW), Arithmetic::Number(50));
    assert_eq!(value(&mut store, b"n", NOW).as_deref(), Some(&b"50 "[..]));
    assert_eq!(store.arithmetic(b"n", Delta::Down(51), 0, NOW), Arithmetic::Number(0));
    store.write(set(b"n", b"18446744073709551615"), NOW);
    assert_eq!(store.arithmetic(b"n", Delta::Up(3), 0, NOW), Arithmetic::Number(2));
    for bad in [&b""[..], b"x", b"1x", b"-1", b"18446744073709551616"] {
        store.write(set(b"n", bad), NOW);
        assert_eq!(store.arithmetic(b"n", Delta::Up(1), 0, NOW), Arithmetic::NotANumber, "{bad:?}");
    }
    assert_eq!(store.arithmetic(b"none", Delta::Up(1), 0, NOW), Arithmetic::NotFound);
}

#[test]
fn times_to_live_are_relative_dates_or_over() {
    let mut store = Store::new(1 << 20, NOW);
    assert_eq!(store.expiry(0, NOW), 0);
    assert_eq!(store.expiry(-1, NOW), 1);
    assert_eq!(store.expiry(60, NOW), NOW + 60);
    assert_eq!(store.expiry(2_592_000, NOW), NOW + 2_592_000);
    assert_eq!(store.expiry(1_800_000_100, NOW), 1_800_000_100);
    assert_eq!(store.expiry(4_294_967_295, NOW), 1, "32 bits are kept");
    store.write(Write { expires: NOW + 2, ..set(b"k", b"v") }, NOW);
    assert!(store.find(b"k", NOW + 1).is_some());
    assert!(store.touch(b"k", NOW + 4, NOW + 1).is_some());
    assert!(store.find(b"k", NOW + 3).is_some());
    assert!(store.find(b"k", NOW + 4).is_none());
    assert_eq!(store.len(), 0, "an expired item goes when it is met");
    assert_eq!(store.used(), 0);
}

#[test]
fn flush_all_is_now_or_later_and_spares_what_comes_after() {
    let mut store = Store::new(1 << 20, NOW);
    store.write(set(b"a", b"1"), NOW);
    store.flush_all(0, NOW);
    assert!(store.find(b"a", NOW).is_none() && store.used() == 0);
    store.write(set(b"a", b"1"), NOW);
    store.flush_all(10, NOW);
    assert!(store.find(b"a", NOW + 9).is_some());
    assert!(store.find(b"a", NOW + 10).is_none());
    store.write(set(b"a", b"1"), NOW + 10);
    assert!(store.find(b"a", NOW + 20).is_some(), "a flush happens once");
    store.flush_all(5, NOW + 20);
    store.flush_all(0, NOW + 20);
    store.write(set(b"a", b"1"), NOW + 20);
    assert!(store.find(b"a", NOW + 30).is_some(), "a new flush takes the place of a waiting one");
}

#[test]
fn memory_is_bounded_and_the_least_recently_used_go() {
    let limit = 10 * (ITEM_COST + 101);
    let mut store = Store::new(limit, NOW);
    for n in 0..10_u8 {
        store.write(set(&[n], &[0; 100]), NOW);
    }
    assert_eq!((store.len(), store.evictions), (10, 0));
    assert!(store.fetch(&[0], NOW).is_some());
    store.write(set(b"x", &[0; 100]), NOW);
    assert_eq!((store.len(), store.evictions), (10, 1));
    assert!(store.find(&[0], NOW).is_some() && store.find(&[1], NOW).is_none());
    for n in 0..5_000_u32 {
        store.write(set(&n.to_be_bytes(), &vec![1; n as usize % 700]), NOW);
        assert!(store.used() <= limit, "{} of {limit}", store.used());
    }
}

#[test]
fn too_large_an_item_is_refused_and_the_old_one_goes() {
    let mut store = Store::new(64 << 20, NOW);
    let most = vec![0; ITEM_MAX - ITEM_HEADER - 1];
    assert!(matches!(store.write(set(b"k", &most), NOW), Written::Stored(_)));
    let append = Write { mode: Mode::Append, ..set(b"k", b"x") };
    assert_eq!(store.write(append, NOW), Written::NotStored);
    let more = vec![0; most.len() + 1];
    assert_eq!(store.write(set(b"k", &more), NOW), Written::TooLarge);
    assert!(store.find(b"k", NOW).is_none());
}

#[test]
fn invalidation_marks_and_deletion_removes() {
    let mut store = Store::new(1 << 20, NOW);
    store.write(set(b"k", b"v"), NOW);
    let before = store.find(b"k", NOW).map(|item| item.cas);
    assert_eq!(store.remove(b"k", None, Change::Invalidate(Some(NOW + 9)), NOW), Removed::Done);
    let item = store.find(b"k", NOW).expect("it stays");
    assert!(item.stale && item.expires == NOW + 9 && Some(item.cas) > before);
    assert_eq!(store.remove(b"k", Some(1), Change::Delete, NOW), Removed::Exists);
    assert_eq!(store.remove(b"k", None, Change::Delete, NOW), Removed::Done);
    assert_eq!(store.remove(b"k", None, Change::Delete, NOW), Removed::NotFound);
}
