//! Answers of the HTTP API. A byte of JSON may become twenty in memory, so that what is kept is
//! charged item by item, before the next one is read.

use std::fmt;
use std::marker::PhantomData;

use model::{BudgetExceeded, Labels, Reservation};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// What a text takes besides its characters: itself, its place in lists that grow and in sets, and
/// what the allocator adds.
const TEXT_BYTES: u64 = 160;

/// What every answer has around its data.
#[derive(Debug)]
pub(super) struct Envelope<T> {
    pub(super) status: String,
    pub(super) data: Option<T>,
    pub(super) error: String,
}

/// Reads an answer; `data` reads its data.
pub(super) fn read<'de, S: DeserializeSeed<'de>>(
    body: &'de [u8],
    data: S,
) -> serde_json::Result<Envelope<S::Value>> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let envelope = EnvelopeVisitor(data);
    let envelope = json.deserialize_map(envelope)?;
    json.end()?;
    Ok(envelope)
}

struct EnvelopeVisitor<S>(S);

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for EnvelopeVisitor<S> {
    type Value = Envelope<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer with status and data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut seed = Some(self.0);
        let mut envelope = Envelope { status: String::new(), data: None, error: String::new() };
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "status" => envelope.status = map.next_value()?,
                "error" => envelope.error = map.next_value()?,
                "data" => {
                    let seed = seed.take().ok_or_else(|| A::Error::duplicate_field("data"))?;
                    envelope.data = map.next_value_seed(Nullable(seed))?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(envelope)
    }
}

/// `null` is no data.
struct Nullable<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("data")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(json).map(Some)
    }
}

/// What the items of an answer are charged to.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) reservation: Reservation,
    /// Why reading ended, if it did for this reason.
    pub(super) refused: Option<BudgetExceeded>,
}

impl Charge {
    fn grow<E: serde::de::Error>(&mut self, bytes: u64) -> Result<(), E> {
        self.reservation.grow(bytes).map_err(|refused| {
            let error = E::custom("it does not fit into the memory budget");
            self.refused = Some(refused);
            error
        })
    }
}

/// A list whose items are read, and charged, by `T`.
pub(super) struct List<'a, T> {
    charge: &'a mut Charge,
    item: PhantomData<T>,
}

impl<'a, T: Item> List<'a, T> {
    pub(super) fn charged_to(charge: &'a mut Charge) -> List<'a, T> {
        List { charge, item: PhantomData }
    }
}

/// What a list is made of.
pub(super) trait Item: Sized {
    fn read<'de, D: Deserializer<'de>>(json: D, charge: &mut Charge) -> Result<Self, D::Error>;
}

impl<'de, T: Item> DeserializeSeed<'de> for List<'_, T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Vec<T>, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, T: Item> Visitor<'de> for List<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(ItemSeed(&mut *self.charge, PhantomData))? {
            items.push(item);
        }
        Ok(items)
    }
}

struct ItemSeed<'a, T>(&'a mut Charge, PhantomData<T>);

impl<'de, T: Item> DeserializeSeed<'de> for ItemSeed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<T, D::Error> {
        T::read(json, self.0)
    }
}

impl Item for String {
    fn read<'de, D: Deserializer<'de>>(json: D, charge: &mut Charge) -> Result<String, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(json)?;
        charge.grow(TEXT_BYTES + text.len() as u64)?;
        Ok(text)
    }
}

impl Item for Labels {
    /// While it is read a set is charged as texts, and then as it is kept.
    fn read<'de, D: Deserializer<'de>>(json: D, charge: &mut Charge) -> Result<Labels, D::Error> {
        let before = charge.reservation.bytes();
        let pairs = json.deserialize_map(Pairs(&mut *charge))?;
        let labels = Labels::from_pairs(pairs);
        charge.reservation.shrink(charge.reservation.bytes() - before);
        charge.grow(TEXT_BYTES + labels.as_packed().len() as u64)?;
        Ok(labels)
    }
}

struct Pairs<'a>(&'a mut Charge);

impl<'de> Visitor<'de> for Pairs<'_> {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a set of labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, String>()? {
            self.0.grow(2 * TEXT_BYTES + (name.len() + value.len()) as u64)?;
            pairs.push((name, value));
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use model::Budget;

    use super::*;

    fn charge(budget: &Budget) -> Charge {
        Charge { reservation: budget.reserve("an answer"), refused: None }
    }

    #[test]
    fn what_is_kept_is_charged() {
        let budget = Budget::new(10_000);
        let mut labels = charge(&budget);
        let body = br#"{"data":[{"b":"2","a":"1"},{}],"warnings":["w"],"status":"success"}"#;
        let envelope = read(body, List::<Labels>::charged_to(&mut labels)).unwrap();
        let sets = [Labels::from_pairs([("a", "1"), ("b", "2")]), Labels::empty()];
        assert_eq!(
            (envelope.status.as_str(), envelope.data.as_deref()),
            ("success", Some(&sets[..]))
        );
        assert!((2 * TEXT_BYTES..4 * TEXT_BYTES).contains(&labels.reservation.bytes()));

        let mut names = charge(&budget);
        let many = format!(r#"{{"data":[{}"x"],"status":"success"}}"#, r#""","#.repeat(100));
        let error = read(many.as_bytes(), List::<String>::charged_to(&mut names)).unwrap_err();
        assert!(error.is_data() && names.refused.is_some(), "{error}");
    }

    #[test]
    fn errors_have_no_data() {
        let mut names = charge(&Budget::unlimited());
        let body = br#"{"status":"error","errorType":"bad_data","error":"no","data":null}"#;
        let envelope = read(body, List::<String>::charged_to(&mut names)).unwrap();
        assert_eq!((envelope.error.as_str(), envelope.data), ("no", None));
    }
}
