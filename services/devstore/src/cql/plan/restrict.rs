//! `WHERE` to keys: which partitions, and which ranges of their rows.

use std::collections::BTreeMap;

use weir_cql::key::{KeyType, append_component};
use weir_cql::{CqlType, Native};

use super::prepare::Markers;
use super::value::{self, Env, Value, present};
use crate::cql::parse::ast::{InTerms, Operator, Relation, Term};
use crate::cql::refusal::Refusal;
use crate::cql::schema::{Column, Place, Table, key_type};
use crate::cql::store::key;

/// Most keys, or ranges, that one statement names.
pub const KEYS_MAX: usize = 100_000;
/// Longest partition key and longest value of a clustering column, bytes, as in Cassandra.
pub const KEY_MAX: usize = 65_535;

/// What a key column is restricted to.
#[derive(Clone, PartialEq, Debug)]
pub enum Restriction {
    /// `= term`
    Equal(Term),
    /// `IN`
    In(InTerms),
}

/// One end of a range.
#[derive(Clone, PartialEq, Debug)]
pub struct Bound {
    /// Of one column, or of several next to each other.
    pub terms: Vec<Term>,
    /// The value itself is in the range.
    pub inclusive: bool,
}

/// What `WHERE` says of the key.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct KeyPlan {
    /// One per column of the partition key; none: every partition, or those of a range of tokens.
    pub partition: Vec<Restriction>,
    /// `token(...) >`
    pub token_lower: Option<Bound>,
    /// `token(...) <`
    pub token_upper: Option<Bound>,
    /// Of the first clustering columns.
    pub clustering: Vec<Restriction>,
    /// Of the clustering columns behind those.
    pub lower: Option<Bound>,
    /// The same, the other end.
    pub upper: Option<Bound>,
}

impl KeyPlan {
    /// Reads the relations.
    ///
    /// # Errors
    /// Invalid for what Cassandra would filter, and for columns that are not there.
    pub fn of(relations: &[Relation], table: &Table, markers: &mut Markers) -> Result<Self, Refusal> {
        let mut plan = Self::default();
        let mut single: BTreeMap<usize, Restriction> = BTreeMap::new();
        let mut slices: BTreeMap<usize, (Option<Bound>, Option<Bound>)> = BTreeMap::new();
        for relation in relations {
            match relation {
                Relation::Compare(name, operator, term) => {
                    let (at, column) = known(table, name)?;
                    markers.note(term, name, &column.kind.cql)?;
                    match operator {
                        Operator::Equal => once(&mut single, at, Restriction::Equal(term.clone()), name)?,
                        Operator::NotEqual => return Err(Refusal::unsupported("!= in WHERE")),
                        operator => bound(&mut slices, at, *operator, vec![term.clone()], name)?,
                    }
                }
                Relation::In(name, terms) => {
                    let (at, column) = known(table, name)?;
                    match terms {
                        InTerms::Bind(marker) => {
                            let list = CqlType::List(Box::new(column.kind.cql.clone()));
                            markers.set(*marker, &format!("in({name})"), list);
                        }
                        InTerms::Each(terms) => {
                            terms.iter().try_for_each(|term| markers.note(term, name, &column.kind.cql))?;
                        }
                    }
                    // one value in brackets is no list, to Cassandra neither
                    let restriction = match terms {
                        InTerms::Each(terms) if terms.len() == 1 => Restriction::Equal(terms[0].clone()),
                        terms => Restriction::In(terms.clone()),
                    };
                    once(&mut single, at, restriction, name)?;
                }
                Relation::Token(names, operator, term) => {
                    plan.token(names, *operator, term, table, markers)?
                }
                Relation::Tuple(names, operator, term) => {
                    let Term::Tuple(terms) = term else {
                        return Err(Refusal::unsupported("one marker for several columns"));
                    };
                    if terms.len() != names.len() {
                        return Err(Refusal::invalid("Expected as many values as columns in a tuple"));
                    }
                    let first = known(table, &names[0])?.0;
                    for (nth, (name, term)) in names.iter().zip(terms).enumerate() {
                        let (at, column) = known(table, name)?;
                        if !matches!(column.place, Place::Clustering { .. }) {
                            return Err(Refusal::invalid(format!(
                                "Multi-column relations can only be applied to clustering columns but was applied to: {name}"
                            )));
                        }
                        if at != first + nth {
                            return Err(Refusal::invalid(format!(
                                "Clustering columns must appear in the PRIMARY KEY order in multi-column relations: {name}"
                            )));
                        }
                        markers.note(term, name, &column.kind.cql)?;
                    }
                    match operator {
                        Operator::Equal => {
                            for (nth, term) in terms.iter().enumerate() {
                                once(
                                    &mut single,
                                    first + nth,
                                    Restriction::Equal(term.clone()),
                                    &names[nth],
                                )?;
                            }
                        }
                        Operator::NotEqual => return Err(Refusal::unsupported("!= in WHERE")),
                        operator => bound(&mut slices, first, *operator, terms.clone(), &names[0])?,
                    }
                }
            }
        }
        plan.place(single, slices, table)?;
        Ok(plan)
    }

    fn token(
        &mut self,
        names: &[String],
        operator: Operator,
        term: &Term,
        table: &Table,
        markers: &mut Markers,
    ) -> Result<(), Refusal> {
        let keys = table.partition_columns().iter().map(|column| &column.name);
        if !keys.eq(names) {
            return Err(Refusal::invalid("The token function arguments must be in the partition key order"));
        }
        let computed;
        let term = match term {
            Term::Call(name, values) if name == "token" => {
                computed = token_of(values, table)?;
                &computed
            }
            term => term,
        };
        markers.note(term, "partition key token", &CqlType::Native(Native::Bigint))?;
        let both = |inclusive| Some(Bound { terms: vec![term.clone()], inclusive });
        let place = |place: &mut Option<Bound>, inclusive| match place
            .replace(Bound { terms: vec![term.clone()], inclusive })
        {
            None => Ok(()),
            Some(_) => Err(Refusal::invalid("More than one restriction was found for a bound on token")),
        };
        match operator {
            Operator::Equal => (self.token_lower, self.token_upper) = (both(true), both(true)),
            Operator::Greater => place(&mut self.token_lower, false)?,
            Operator::GreaterOrEqual => place(&mut self.token_lower, true)?,
            Operator::Less => place(&mut self.token_upper, false)?,
            Operator::LessOrEqual => place(&mut self.token_upper, true)?,
            Operator::NotEqual => return Err(Refusal::unsupported("!= in WHERE")),
        }
        Ok(())
    }

    /// Puts the restrictions where their columns stand.
    fn place(
        &mut self,
        mut single: BTreeMap<usize, Restriction>,
        mut slices: BTreeMap<usize, (Option<Bound>, Option<Bound>)>,
        table: &Table,
    ) -> Result<(), Refusal> {
        let keys = table.partition + table.clustering;
        let filtered = single.keys().chain(slices.keys()).any(|at| *at >= keys);
        if filtered {
            return Err(filtering());
        }
        if slices.keys().any(|at| *at < table.partition) {
            return Err(Refusal::invalid(
                "Only EQ and IN relation are supported on the partition key (unless you use the token() function)",
            ));
        }
        let restricted = single.keys().filter(|at| **at < table.partition).count();
        let tokens = self.token_lower.is_some() || self.token_upper.is_some();
        if tokens && restricted > 0 {
            return Err(Refusal::unsupported("token() together with the partition key"));
        }
        if restricted == table.partition {
            self.partition = (0..table.partition).filter_map(|at| single.remove(&at)).collect();
        } else if restricted > 0 {
            return Err(filtering());
        }
        for at in table.partition..keys {
            match (single.remove(&at), slices.remove(&at)) {
                (Some(found), None) => self.clustering.push(found),
                (None, Some((lower, upper))) => {
                    (self.lower, self.upper) = (lower, upper);
                    break;
                }
                (Some(_), Some(_)) => {
                    return Err(Refusal::invalid(format!(
                        "{} cannot be restricted by more than one relation if it includes an Equal",
                        table.columns[at].name
                    )));
                }
                (None, None) => break,
            }
        }
        if let Some(at) = single.keys().chain(slices.keys()).next() {
            let before = (table.partition + self.clustering.len()).min(keys - 1);
            return Err(Refusal::invalid(format!(
                "PRIMARY KEY column \"{}\" cannot be restricted as preceding column \"{}\" is not restricted",
                table.columns[*at].name, table.columns[before].name
            )));
        }
        if self.partition.is_empty()
            && (!self.clustering.is_empty() || self.lower.is_some() || self.upper.is_some())
        {
            return Err(filtering());
        }
        let of_slice = self.slice_columns(table);
        let turned = of_slice.windows(2).any(|pair| is_descending(&pair[0]) != is_descending(&pair[1]));
        if turned {
            return Err(Refusal::unsupported("a range over clustering columns of different order"));
        }
        Ok(())
    }

    fn slice_columns<'a>(&self, table: &'a Table) -> &'a [Column] {
        let length = |bound: &Option<Bound>| bound.as_ref().map_or(0, |bound| bound.terms.len());
        let start = self.clustering.len();
        let end = (start + length(&self.lower).max(length(&self.upper))).min(table.clustering);
        &table.clustering_columns()[start..end]
    }

    /// The markers the partition key is bound by; empty when a part of it is not.
    pub fn markers(&self) -> Vec<u16> {
        let each = self.partition.iter().map(|restriction| match restriction {
            Restriction::Equal(Term::Bind(at)) => Some(*at),
            // the last of `IN (?, ?)`, as Cassandra tells it
            Restriction::In(InTerms::Each(terms)) => terms.iter().rev().find_map(|term| match term {
                Term::Bind(at) => Some(*at),
                _ => None,
            }),
            _ => None,
        });
        each.collect::<Option<_>>().unwrap_or_default()
    }

    /// Whether `IN` names partitions.
    pub fn has_partition_in(&self) -> bool {
        self.partition.iter().any(|restriction| matches!(restriction, Restriction::In(_)))
    }

    /// The serialized partition keys, in the order in which they are answered, each once.
    ///
    /// # Errors
    /// Invalid for null, for bytes of another type, and for more than [`KEYS_MAX`].
    pub fn partitions(&self, table: &Table, env: &Env<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
        let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
        for (restriction, column) in self.partition.iter().zip(table.partition_columns()) {
            let values = values(restriction, column, env)?;
            let mut longer = Vec::new();
            for key in &keys {
                for value in &values {
                    let mut key = key.clone();
                    let fits = match table.partition {
                        1 => {
                            key.extend_from_slice(value);
                            Some(())
                        }
                        _ => append_component(&mut key, value),
                    };
                    if fits.is_none() || key.len() > KEY_MAX {
                        let length = key.len().max(value.len());
                        return Err(Refusal::invalid(format!(
                            "Key length of {length} is longer than maximum of {KEY_MAX}"
                        )));
                    }
                    longer.push(key);
                    within(longer.len())?;
                }
            }
            keys = longer;
        }
        if keys.iter().any(Vec::is_empty) {
            return Err(Refusal::invalid("Key may not be empty"));
        }
        Ok(keys)
    }

    /// The first clustering columns as components, in the order of the rows, each once.
    ///
    /// # Errors
    /// As [`KeyPlan::partitions`].
    pub fn prefixes(&self, table: &Table, env: &Env<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
        let mut prefixes = vec![Vec::new()];
        for (restriction, column) in self.clustering.iter().zip(table.clustering_columns()) {
            let values = values(restriction, column, env)?;
            let mut longer = Vec::new();
            for prefix in &prefixes {
                for value in &values {
                    let mut prefix: Vec<u8> = prefix.clone();
                    component(column, value, &mut prefix)?;
                    longer.push(prefix);
                    within(longer.len())?;
                }
            }
            prefixes = longer;
        }
        prefixes.sort();
        prefixes.dedup();
        Ok(prefixes)
    }

    /// The range of keys of one partition's rows that begin with `prefix`: from the first to before the second.
    ///
    /// # Errors
    /// As [`KeyPlan::partitions`].
    pub fn range(
        &self,
        table: &Table,
        partition: &[u8],
        prefix: &[u8],
        env: &Env<'_>,
    ) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
        let end = |bound: &Option<Bound>| -> Result<Option<(Vec<u8>, bool)>, Refusal> {
            let Some(bound) = bound else { return Ok(None) };
            let mut components = prefix.to_vec();
            for (term, column) in bound.terms.iter().zip(self.slice_columns(table)) {
                let bytes = present(term, &column.kind.cql, &column.name, env)?;
                component(column, &bytes, &mut components)?;
            }
            Ok(Some((components, bound.inclusive)))
        };
        let (mut low, mut high) = (end(&self.lower)?, end(&self.upper)?);
        if self.slice_columns(table).first().is_some_and(is_descending) {
            std::mem::swap(&mut low, &mut high);
        }
        let start = match low {
            None => key::row(partition, prefix),
            Some((components, true)) => key::row(partition, &components),
            Some((components, false)) => key::after(partition, &components),
        };
        let stop = match high {
            None => key::after(partition, prefix),
            Some((components, true)) => key::after(partition, &components),
            Some((components, false)) => key::row(partition, &components),
        };
        Ok((start, stop))
    }

    /// The range of keys of a range of tokens.
    ///
    /// # Errors
    /// Invalid for null.
    pub fn tokens(&self, env: &Env<'_>) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
        let read = |bound: &Option<Bound>| -> Result<Option<(i64, bool)>, Refusal> {
            let Some(bound) = bound else { return Ok(None) };
            let Some(term) = bound.terms.first() else { return Ok(None) };
            let bytes = present(term, &CqlType::Native(Native::Bigint), "partition key token", env)?;
            let token = bytes.try_into().map(i64::from_be_bytes);
            let token = token.map_err(|_| Refusal::invalid("Invalid token value"))?;
            Ok(Some((token, bound.inclusive)))
        };
        /// Behind every token.
        const END: [u8; 9] = [0xff; 9];
        let edge = |token: i64, behind: bool| match token.checked_add(i64::from(behind)) {
            Some(token) => key::token_bytes(token).to_vec(),
            None => END.to_vec(),
        };
        let start = read(&self.token_lower)?.map_or(Vec::new(), |(token, inclusive)| edge(token, !inclusive));
        // the smallest token as an upper end stands for the end of the ring
        let stop = match read(&self.token_upper)? {
            None | Some((i64::MIN, _)) => END.to_vec(),
            Some((token, inclusive)) => edge(token, inclusive),
        };
        Ok((start, stop))
    }
}

/// The token of a key that is written in the statement, as a literal.
fn token_of(values: &[Term], table: &Table) -> Result<Term, Refusal> {
    if values.len() != table.partition {
        return Err(Refusal::invalid("Invalid number of arguments for function system.token"));
    }
    if !values.iter().all(value::is_constant) {
        return Err(Refusal::unsupported("a marker inside of token()"));
    }
    let mut parts = Vec::new();
    for (term, column) in values.iter().zip(table.partition_columns()) {
        parts.push(present(term, &column.kind.cql, &column.name, &value::NOTHING_BOUND)?);
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let key = weir_cql::key::composite(&parts).ok_or_else(|| Refusal::invalid("a key that is too long"))?;
    let text = weir_cql::key::token(&key).value().to_string().into_bytes();
    Ok(Term::Literal(weir_cql::statement::LiteralKind::Integer, text))
}

/// Whether a clustering column is in descending order.
pub fn is_descending(column: &Column) -> bool {
    matches!(column.place, Place::Clustering { descending: true, .. })
}

/// The order of a key column; every one has one.
pub fn order_of(column: &Column) -> KeyType {
    key_type(&column.kind.cql).unwrap_or(KeyType::Blob)
}

fn component(column: &Column, value: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    if value.len() > KEY_MAX {
        return Err(Refusal::invalid(format!(
            "Key length of {} is longer than maximum of {KEY_MAX}",
            value.len()
        )));
    }
    key::push(order_of(column), is_descending(column), value, out);
    Ok(())
}

fn within(count: usize) -> Result<(), Refusal> {
    if count > KEYS_MAX {
        return Err(Refusal::unsupported(format!("more than {KEYS_MAX} keys in one statement")));
    }
    Ok(())
}

fn filtering() -> Refusal {
    Refusal::invalid(
        "Cannot execute this query as it might involve data filtering and thus may have unpredictable performance. \
         (The embedded development store does not filter, ALLOW FILTERING or not.)",
    )
}

fn known<'a>(table: &'a Table, name: &str) -> Result<(usize, &'a Column), Refusal> {
    table.column(name).ok_or_else(|| undefined(table, name))
}

/// The error for a column that is not there.
pub fn undefined(table: &Table, name: &str) -> Refusal {
    Refusal::invalid(format!("Undefined column name {name} in table {}.{}", table.keyspace, table.name))
}

fn once(
    single: &mut BTreeMap<usize, Restriction>,
    at: usize,
    restriction: Restriction,
    name: &str,
) -> Result<(), Refusal> {
    if single.insert(at, restriction).is_some() {
        return Err(Refusal::invalid(format!(
            "{name} cannot be restricted by more than one relation if it includes an Equal"
        )));
    }
    Ok(())
}

fn bound(
    slices: &mut BTreeMap<usize, (Option<Bound>, Option<Bound>)>,
    at: usize,
    operator: Operator,
    terms: Vec<Term>,
    name: &str,
) -> Result<(), Refusal> {
    let inclusive = matches!(operator, Operator::LessOrEqual | Operator::GreaterOrEqual);
    let slice = slices.entry(at).or_default();
    let place = match operator {
        Operator::Greater | Operator::GreaterOrEqual => &mut slice.0,
        _ => &mut slice.1,
    };
    if place.replace(Bound { terms, inclusive }).is_some() {
        return Err(Refusal::invalid(format!(
            "More than one restriction was found for the same bound on {name}"
        )));
    }
    Ok(())
}

/// The values of a restriction, in the type's order, each once.
fn values(restriction: &Restriction, column: &Column, env: &Env<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
    let kind = &column.kind.cql;
    let mut found = match restriction {
        Restriction::Equal(term) => return Ok(vec![present(term, kind, &column.name, env)?]),
        Restriction::In(InTerms::Each(terms)) => {
            terms.iter().map(|term| present(term, kind, &column.name, env)).collect::<Result<Vec<_>, _>>()?
        }
        Restriction::In(InTerms::Bind(at)) => {
            let list = CqlType::List(Box::new(kind.clone()));
            let Value::Bytes(bytes) = value::value(&Term::Bind(*at), &list, &column.name, env)? else {
                return Err(Refusal::invalid(format!(
                    "Invalid null value for IN restriction on {}",
                    column.name
                )));
            };
            let elements = value::elements(&bytes).unwrap_or_default();
            elements.into_iter().map(<[u8]>::to_vec).collect()
        }
    };
    let order = order_of(column);
    found.sort_by(|one, other| order.compare(one, other));
    found.dedup();
    Ok(found)
}
