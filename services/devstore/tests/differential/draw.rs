//! What is drawn: tables, writes and reads, over values so few that rows meet.

/// A small generator (SplitMix64): the same numbers from the same seed everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

const KEY_TYPES: [&str; 12] = [
    "int",
    "text",
    "bigint",
    "blob",
    "timestamp",
    "uuid",
    "timeuuid",
    "boolean",
    "smallint",
    "tinyint",
    "double",
    "date",
];
const TYPES: [&str; 17] = [
    "int",
    "text",
    "bigint",
    "blob",
    "timestamp",
    "boolean",
    "float",
    "uuid",
    "inet",
    "set<text>",
    "list<int>",
    "map<text, int>",
    "frozen<set<int>>",
    "frozen<list<text>>",
    "ascii",
    "time",
    "set<timeuuid>",
];

/// A literal of a type, of few.
fn literal(kind: &str, random: &mut Random) -> String {
    let owned = |texts: &[&str], random: &mut Random| (*random.pick(texts)).to_owned();
    if let Some(inner) = kind.strip_prefix("frozen<") {
        return literal(&inner[..inner.len() - 1], random);
    }
    match kind {
        "int" | "smallint" | "tinyint" | "bigint" => owned(&["0", "1", "-1", "2", "100", "-128"], random),
        "text" | "ascii" => owned(&["''", "'a'", "'ab'", "'b'", "'it''s'", "'Z'"], random),
        "blob" => owned(&["0x", "0x00", "0x0001", "0xff", "0xff00"], random),
        "timestamp" => owned(
            &["0", "-1", "1700000000000", "'2026-11-22T01:02:03Z'", "'2026-11-22 01:02:03.004+0100'"],
            random,
        ),
        "boolean" => owned(&["true", "false"], random),
        "float" | "double" => owned(&["0", "-0.0", "1.5", "-1.5", "Infinity", "-Infinity", "1e10"], random),
        "uuid" => owned(
            &[
                "00000000-0000-4000-8000-000000000000",
                "ffffffff-ffff-4fff-bfff-ffffffffffff",
                "10000000-0000-1000-8000-000000000000",
                "00000001-0000-1000-8000-0000000000ff",
                "123e4567-e89b-52d3-a456-426614174000",
            ],
            random,
        ),
        "timeuuid" => owned(
            &[
                "10000000-0000-1000-8000-000000000000",
                "00000001-0000-1fff-8000-0000000000ff",
                "00000001-0000-1fff-a000-80000000007f",
                "ffffffff-ffff-1000-bfff-ffffffffffff",
            ],
            random,
        ),
        "date" => owned(&["'1970-01-01'", "'2026-11-22'", "'1969-12-31'"], random),
        "time" => owned(&["'00:00:00'", "'23:59:59.123'", "'08:30:00.000000001'"], random),
        "inet" => owned(&["'127.0.0.1'", "'::1'", "'10.0.0.255'"], random),
        _ => collection(kind, random),
    }
}

fn collection(kind: &str, random: &mut Random) -> String {
    let (what, inner) = kind.split_once('<').expect("a collection");
    let inner = &inner[..inner.len() - 1];
    let count = random.below(4);
    let mut items: Vec<String> = (0..count)
        .map(|_| match inner.split_once(", ") {
            Some((key, value)) => format!("{}: {}", literal(key, random), literal(value, random)),
            None => literal(inner, random),
        })
        .collect();
    if what == "map" {
        // of two values of one key in a literal Cassandra takes either
        let key = |item: &String| item.split(':').next().map(str::to_owned);
        items.sort_by_key(key);
        items.dedup_by_key(|item| key(item));
    }
    match what {
        "list" => format!("[{}]", items.join(", ")),
        _ => format!("{{{}}}", items.join(", ")),
    }
}

struct Column {
    name: String,
    kind: &'static str,
}

/// A table `t`.
pub struct Schema {
    partition: Vec<Column>,
    clustering: Vec<(Column, bool)>,
    regular: Vec<Column>,
    counters: bool,
}

impl Schema {
    pub fn draw(random: &mut Random) -> Self {
        let mut next = 0;
        let mut column = |kinds: &[&'static str], random: &mut Random| {
            next += 1;
            Column {
                name: format!("{}{next}", random.pick(&["c", "k", "x"])),
                kind: random.pick::<&'static str>(kinds),
            }
        };
        let partition = (0..1 + random.below(2)).map(|_| column(&KEY_TYPES, random)).collect();
        let clustering =
            (0..random.below(4)).map(|_| (column(&KEY_TYPES, random), random.chance(2))).collect();
        let counters = random.chance(5);
        let kinds: &[&str] = if counters { &["counter"] } else { &TYPES };
        let regular = (0..1 + random.below(5)).map(|_| column(kinds, random)).collect();
        Self { partition, clustering, regular, counters }
    }

    pub fn create(&self) -> String {
        let keys = self.partition.iter().chain(self.clustering.iter().map(|(column, _)| column));
        let columns: Vec<String> =
            keys.chain(&self.regular).map(|column| format!("{} {}", column.name, column.kind)).collect();
        let names: Vec<&str> = self.partition.iter().map(|column| column.name.as_str()).collect();
        let rest: String = self.clustering.iter().map(|(column, _)| format!(", {}", column.name)).collect();
        let order: Vec<String> = self
            .clustering
            .iter()
            .map(|(column, down)| format!("{} {}", column.name, if *down { "DESC" } else { "ASC" }))
            .collect();
        let with = if order.is_empty() {
            String::new()
        } else {
            format!(" WITH CLUSTERING ORDER BY ({})", order.join(", "))
        };
        format!("CREATE TABLE t ({}, PRIMARY KEY (({}){rest})){with}", columns.join(", "), names.join(", "))
    }

    pub fn all(&self) -> String {
        "SELECT * FROM t".to_owned()
    }

    /// `=` or `IN` on the partition key.
    fn partition(&self, random: &mut Random, list: bool) -> Vec<String> {
        let each = self.partition.iter().map(|column| equal(column, random, list));
        each.collect()
    }

    /// Relations of the first clustering columns, with a range at the end now and then.
    fn clustering(&self, random: &mut Random) -> Vec<String> {
        let count = random.below(self.clustering.len() + 1);
        let mut relations: Vec<String> =
            self.clustering.iter().take(count).map(|(column, _)| equal(column, random, true)).collect();
        if let Some((column, _)) = self.clustering.get(count).filter(|_| !random.chance(3)) {
            let name = &column.name;
            if random.chance(2) {
                relations.push(format!(
                    "{name} {} {}",
                    random.pick(&[">", ">="]),
                    literal(column.kind, random)
                ));
            }
            if random.chance(2) {
                relations.push(format!(
                    "{name} {} {}",
                    random.pick(&["<", "<="]),
                    literal(column.kind, random)
                ));
            }
        }
        relations
    }

    fn row(&self, random: &mut Random) -> Vec<String> {
        let mut relations = self.partition(random, false);
        relations.extend(self.clustering.iter().map(|(column, _)| equal(column, random, false)));
        relations
    }

    /// A write, or a batch of some: one in eight.
    pub fn write(&self, random: &mut Random) -> String {
        if !random.chance(8) {
            return self.one(random);
        }
        let kind = match self.counters {
            true => "COUNTER ",
            false => random.pick::<&str>(&["", "UNLOGGED "]),
        };
        let writes: Vec<String> = (0..1 + random.below(5)).map(|_| self.one(random)).collect();
        format!("BEGIN {kind}BATCH {}; APPLY BATCH", writes.join("; "))
    }

    /// Writes for a batch message, as many as given.
    pub fn writes(&self, random: &mut Random, count: usize) -> Vec<String> {
        (0..count).map(|_| self.one(random)).collect()
    }

    /// Whether its batches are of counters.
    pub fn counts(&self) -> bool {
        self.counters
    }

    fn one(&self, random: &mut Random) -> String {
        if self.counters {
            return self.count(random);
        }
        let timestamp = 1_000 + random.below(20);
        match random.below(10) {
            0..=4 => {
                let keys = self.partition.iter().chain(self.clustering.iter().map(|(column, _)| column));
                let mut columns: Vec<&Column> = keys.collect();
                columns.extend(self.regular.iter().filter(|_| !random.chance(3)));
                let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
                let values: Vec<String> = columns
                    .iter()
                    .enumerate()
                    .map(|(at, column)| {
                        match at >= self.partition.len() + self.clustering.len() && random.chance(8) {
                            true => "null".to_owned(),
                            false => literal(column.kind, random),
                        }
                    })
                    .collect();
                format!(
                    "INSERT INTO t ({}) VALUES ({}) USING TIMESTAMP {timestamp}",
                    names.join(", "),
                    values.join(", ")
                )
            }
            5..=7 => {
                let mut sets: Vec<String> = Vec::new();
                for column in &self.regular {
                    if random.chance(2) {
                        sets.push(assignment(column, random));
                    }
                }
                let sets = if sets.is_empty() { vec![assignment(&self.regular[0], random)] } else { sets };
                format!(
                    "UPDATE t USING TIMESTAMP {timestamp} SET {} WHERE {}",
                    sets.join(", "),
                    self.row(random).join(" AND ")
                )
            }
            8 => {
                let column = random.pick(&self.regular);
                let target = match column.kind {
                    "map<text, int>" if random.chance(2) => {
                        format!("{}[{}]", column.name, literal("text", random))
                    }
                    _ => column.name.clone(),
                };
                format!(
                    "DELETE {target} FROM t USING TIMESTAMP {timestamp} WHERE {}",
                    self.row(random).join(" AND ")
                )
            }
            _ => {
                let mut relations = self.partition(random, false);
                match random.below(3) {
                    0 => {}
                    1 => relations
                        .extend(self.clustering.iter().map(|(column, _)| equal(column, random, false))),
                    _ => relations
                        .extend(self.clustering(random).into_iter().filter(|text| !text.contains(" IN "))),
                }
                format!("DELETE FROM t USING TIMESTAMP {timestamp} WHERE {}", relations.join(" AND "))
            }
        }
    }

    fn count(&self, random: &mut Random) -> String {
        let column = random.pick(&self.regular);
        let sign = random.pick(&["+", "-"]);
        let by = random.below(5);
        let name = &column.name;
        format!("UPDATE t SET {name} = {name} {sign} {by} WHERE {}", self.row(random).join(" AND "))
    }

    /// A `SELECT`, and rows per page.
    pub fn read(&self, random: &mut Random) -> (String, Option<i32>) {
        let mut relations = Vec::new();
        let whole = random.chance(4);
        let in_keys = !whole && random.chance(3);
        if !whole {
            relations = self.partition(random, in_keys);
            relations.extend(self.clustering(random));
        }
        let columns = match random.below(5) {
            0 => "count(*)".to_owned(),
            1 => {
                let names: Vec<&str> = self.partition.iter().map(|column| column.name.as_str()).collect();
                format!("token({}), {}", names.join(", "), self.regular[0].name)
            }
            2 => {
                let plain = self.regular.iter().find(|column| !column.kind.contains('<'));
                match plain {
                    Some(column) => format!("writetime({0}), ttl({0}), {0} AS other", column.name).replace(
                        &format!("writetime({0}), ttl({0}), ", column.name),
                        &if self.counters {
                            String::new()
                        } else {
                            format!("writetime({0}), ttl({0}), ", column.name)
                        },
                    ),
                    None => "*".to_owned(),
                }
            }
            _ => "*".to_owned(),
        };
        let mut text = format!("SELECT {columns} FROM t");
        if !relations.is_empty() {
            text += &format!(" WHERE {}", relations.join(" AND "));
        }
        if let Some((column, down)) = self.clustering.first().filter(|_| !whole && random.chance(3)) {
            let turned = random.chance(2);
            text += &format!(" ORDER BY {} {}", column.name, if *down != turned { "DESC" } else { "ASC" });
        }
        if columns != "count(*)" && random.chance(4) {
            text += &format!(" PER PARTITION LIMIT {}", 1 + random.below(3));
        }
        if random.chance(3) {
            text += &format!(" LIMIT {}", 1 + random.below(8));
        }
        let page = if random.chance(2) { Some(1 + random.below(7) as i32) } else { None };
        (text, page)
    }

    /// Statements that are refused.
    pub fn wrong(&self) -> Vec<String> {
        let first = &self.partition[0].name;
        let regular = &self.regular[0].name;
        vec![
            "SELECT nothing FROM t".into(),
            "SELECT * FROM nowhere".into(),
            "SELECT * FROM nowhere.t".into(),
            "SELEC * FROM t".into(),
            format!("SELECT * FROM t WHERE {regular} = null"),
            format!("SELECT * FROM t WHERE {first} = null"),
            format!("SELECT * FROM t WHERE {first} > {first}"),
            "SELECT * FROM t LIMIT 0".into(),
            "SELECT * FROM t LIMIT -1".into(),
            "INSERT INTO t (nothing) VALUES (1)".into(),
            format!("INSERT INTO t ({regular}) VALUES (null)"),
            format!("INSERT INTO t ({first}, {first}) VALUES (null, null)"),
            format!("UPDATE t SET {first} = null WHERE {first} = null"),
            format!("DELETE {first} FROM t WHERE {first} = null"),
            self.create(),
            "DROP TABLE nowhere".into(),
            "DROP TABLE IF EXISTS nowhere".into(),
            "DROP KEYSPACE nowhere".into(),
            "DROP KEYSPACE IF EXISTS nowhere".into(),
            "CREATE KEYSPACE other WITH durable_writes = true".into(),
            "USE nowhere".into(),
            "TRUNCATE nowhere".into(),
            "ALTER TABLE t DROP nothing".into(),
            format!("ALTER TABLE t DROP {first}"),
        ]
    }
}

fn equal(column: &Column, random: &mut Random, list: bool) -> String {
    let name = &column.name;
    if list && random.chance(3) {
        let values: Vec<String> = (0..1 + random.below(4)).map(|_| literal(column.kind, random)).collect();
        return format!("{name} IN ({})", values.join(", "));
    }
    format!("{name} = {}", literal(column.kind, random))
}

fn assignment(column: &Column, random: &mut Random) -> String {
    let (name, kind) = (&column.name, column.kind);
    if random.chance(8) {
        return format!("{name} = null");
    }
    let value = literal(kind, random);
    if !kind.contains('<') || kind.starts_with("frozen") {
        return format!("{name} = {value}");
    }
    match (kind.split('<').next(), random.below(5)) {
        (Some("list"), 0) => format!("{name} = {value} + {name}"),
        (Some("map"), 0) => format!("{name}['a'] = {}", random.below(5)),
        (Some("map"), 1) => format!("{name} = {name} - {{'a', 'b'}}"),
        (Some("set"), 1) => format!("{name} -= {value}"),
        (_, 2 | 3) => format!("{name} = {name} + {value}"),
        _ => format!("{name} = {value}"),
    }
}
