//! Tables, and the values that rows of them are made of.

use crate::draw::Draw;
use crate::kinds::Kind;
use weir_cql::key::KeyType;

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    /// As it is written in CQL: with quotes where it needs them.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// Whether that is frozen.
    pub frozen: bool,
}

/// A table, and what its rows are drawn from.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The columns of the partition key.
    pub partition: Vec<Column>,
    /// The clustering columns.
    pub clustering: Vec<Column>,
    descending: Vec<bool>,
    /// Columns of which a partition has one.
    pub statics: Vec<Column>,
    /// The others.
    pub regular: Vec<Column>,
    /// Whether those are counters.
    pub counter: bool,
    /// Values of each column of the partition key.
    pub keys: Vec<Vec<Vec<u8>>>,
    /// Partitions that have rows: of each column of the key, which of `keys`.
    pub present: Vec<Vec<usize>>,
    /// Values of each clustering column.
    pub places: Vec<Vec<Vec<u8>>>,
}

impl Column {
    fn new(name: &str, kind: Kind, frozen: bool) -> Column {
        let frozen = frozen && kind.is_nested();
        Column { name: name.to_owned(), kind, frozen }
    }

    fn definition(&self, more: &str) -> String {
        let kind = self.kind.name();
        let kind = if self.frozen { format!("frozen<{kind}>") } else { kind };
        format!("{} {kind}{more}", self.name)
    }
}

impl Table {
    /// The table of a seed. Types of keys take turns, so that few seeds meet all of them.
    pub fn of_seed(seed: u64, draw: &mut Draw) -> Table {
        let turn = Kind::Native(KeyType::ALL[(seed % KeyType::ALL.len() as u64) as usize]);
        let names = match draw.below(8) {
            0 => ["\"Key\"", "\"from\"", "p3"],
            1 => ["\"in(p)\"", "p2", "\"p 3\""],
            _ => ["p1", "p2", "p3"],
        };
        let columns = draw.weighted(&[(65, 1), (25, 2), (10, 3)]);
        let nested = draw.percent(8);
        let partition: Vec<Column> = (0..columns)
            .map(|at| match at + 1 == columns {
                true if nested => Column::new(names[at], Kind::nested(draw), true),
                true => Column::new(names[at], turn.clone(), true),
                false => Column::new(names[at], Kind::native(draw), true),
            })
            .collect();
        let clustering: Vec<Column> = (0..draw.weighted(&[(30, 0), (40, 1), (30, 2)]))
            .map(|at| {
                let kind = if draw.percent(8) { Kind::nested(draw) } else { Kind::native(draw) };
                Column::new(["c1", "\"C2\""][at], kind, true)
            })
            .collect();
        let counter = draw.percent(8);
        let mut statics = Vec::new();
        if !clustering.is_empty() && draw.percent(50) {
            let kind = if counter { Kind::Counter } else { Kind::native(draw) };
            statics.push(Column::new("s", kind, false));
        }
        let regular = (0..1 + draw.below(4))
            .map(|at| {
                let kind = match draw.below(10) {
                    _ if counter => Kind::Counter,
                    0..=3 => Kind::nested(draw),
                    4 if draw.percent(30) => Kind::Duration,
                    4 if draw.percent(30) => Kind::Vector,
                    5 => Kind::INT,
                    _ => Kind::native(draw),
                };
                Column::new(["v", "w", "\"X\"", "y"][at], kind, draw.percent(40))
            })
            .collect();
        let pool = |column: &Column, count: usize, draw: &mut Draw| {
            let mut values: Vec<Vec<u8>> = Vec::new();
            for _ in 0..count * 3 {
                let value = column.kind.value(draw);
                if values.len() < count && !values.contains(&value) {
                    values.push(value);
                }
            }
            values
        };
        let last = partition.len() - 1;
        let keys: Vec<_> =
            (0..=last).map(|at| pool(&partition[at], if at == last { 14 } else { 2 }, draw)).collect();
        let mut present: Vec<Vec<usize>> = vec![Vec::new()];
        for pool in &keys {
            let longer = |key: &Vec<usize>| (0..pool.len()).map(|at| [&key[..], &[at]].concat()).collect();
            present = present.iter().flat_map(|key| -> Vec<Vec<usize>> { longer(key) }).collect();
        }
        present.retain(|_| draw.percent(70));
        let places = clustering.iter().map(|column| pool(column, 4, draw)).collect();
        let descending = clustering.iter().map(|_| draw.percent(40)).collect();
        let name = format!("t{seed}");
        Table { name, partition, clustering, descending, statics, regular, counter, keys, present, places }
    }

    /// The statement that makes it in the keyspace.
    pub fn create(&self, keyspace: &str) -> String {
        let names = |columns: &[Column]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let mut columns: Vec<String> = Vec::new();
        for (all, more) in
            [(&self.partition, ""), (&self.clustering, ""), (&self.statics, " static"), (&self.regular, "")]
        {
            columns.extend(all.iter().map(|column| column.definition(more)));
        }
        let mut key = vec![format!("({})", names(&self.partition).join(", "))];
        key.extend(names(&self.clustering));
        let order = |(column, down): (&Column, &bool)| {
            format!("{} {}", column.name, if *down { "DESC" } else { "ASC" })
        };
        let order: Vec<_> = self.clustering.iter().zip(&self.descending).map(order).collect();
        let with = match &order[..] {
            [] => String::new(),
            order => format!(" WITH CLUSTERING ORDER BY ({})", order.join(", ")),
        };
        let (name, columns, key) = (&self.name, columns.join(", "), key.join(", "));
        format!("CREATE TABLE {keyspace}.{name} ({columns}, PRIMARY KEY ({key})){with}")
    }

    /// The values of a partition that has rows, mostly; else of any.
    pub fn key(&self, draw: &mut Draw) -> Vec<Vec<u8>> {
        if !self.present.is_empty() && draw.percent(85) {
            let at = draw.pick(&self.present).clone();
            return at.iter().zip(&self.keys).map(|(at, pool)| pool[*at].clone()).collect();
        }
        self.keys.iter().map(|pool| draw.pick(pool).clone()).collect()
    }

    /// Every column.
    pub fn columns(&self) -> impl Iterator<Item = &Column> {
        self.partition.iter().chain(&self.clustering).chain(&self.statics).chain(&self.regular)
    }

    /// Columns that are no part of the primary key.
    pub fn values(&self) -> Vec<&Column> {
        self.statics.iter().chain(&self.regular).collect()
    }
}
