//! GetPostRecords, the method of April's batches: a call for 20,000 posts is read, planned, answered and freed in turns with
//! other calls. Code that is generated decodes and encodes a message in one go, and beside 8 MB of it nobody else would be
//! served for 20 ms; here that is done some keys at a time.

use super::DataPlane;
use super::records::{collection, no_record, threads_of};
use crate::bsky::PostRecordMeta;
use crate::bsky::service_server::{SERVICE_NAME, ServiceServer};
use crate::read::kinds::Records;
use crate::read::pace::Pace;
use crate::read::plan::Planner;
use crate::read::{Call, Failure, Reads};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::{Body as HttpBody, Frame};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, message, skip_field};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::{HeaderMap, HeaderValue};
use tonic::codegen::{BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};

const PATH: &str = "/bsky.Service/GetPostRecords";

/// Bytes of a piece of a reply.
const PIECE: usize = 64 << 10;

/// Fields of the request.
const URIS: u32 = 1;
const OP_THREADS: u32 = 4;

/// The service as a server has it: GetPostRecords here, the other methods as they were generated.
#[derive(Clone)]
pub struct Front {
    plane: Arc<DataPlane>,
    rest: ServiceServer<DataPlane>,
    message_bytes_max: usize,
}

impl Front {
    /// With messages of so many bytes at the most, both ways.
    pub fn new(plane: DataPlane, message_bytes_max: usize) -> Front {
        let plane = Arc::new(plane);
        let rest = ServiceServer::from_arc(plane.clone())
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(message_bytes_max);
        Front { plane, rest, message_bytes_max }
    }
}

impl NamedService for Front {
    const NAME: &'static str = SERVICE_NAME;
}

impl<B> Service<http::Request<B>> for Front
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path() != PATH {
            return self.rest.call(request);
        }
        let reply = Slot::default();
        let posts = Posts { plane: self.plane.clone(), most: self.message_bytes_max, reply: reply.clone() };
        Box::pin(async move {
            let mut grpc = Grpc::new(Raw).apply_max_message_size_config(Some(posts.most), None);
            let response = grpc.unary(posts, request).await;
            let pieces = reply.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Without a reply it is an error, and complete.
            let Some(pieces) = pieces else { return Ok(response) };
            let (head, _) = response.into_parts();
            Ok(http::Response::from_parts(head, pieces.body()))
        })
    }
}

/// Where a call leaves its reply.
type Slot = Arc<Mutex<Option<Pieces>>>;

struct Posts {
    plane: Arc<DataPlane>,
    /// Bytes of a reply.
    most: usize,
    reply: Slot,
}

impl UnaryService<Bytes> for Posts {
    type Response = ();
    type Future = BoxFuture<Response<()>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (plane, most, slot) = (self.plane.clone(), self.most, self.reply.clone());
        Box::pin(async move {
            let message = request.get_ref();
            let pieces = match plane.bulk.clone().filter(|bulk| has_more_keys(message, bulk.keys)) {
                None => answer(&plane, &plane.reads, &request).await?,
                Some(bulk) => {
                    let reads = bulk.reads.clone();
                    let there = bulk.run(async move { answer(&plane, &reads, &request).await });
                    there.await.unwrap_or_else(|| Err(Status::internal("the call was ended")))?
                }
            };
            if pieces.length > most {
                let words =
                    format!("a reply of {} bytes, at most {most} (--message-bytes-max)", pieces.length);
                return Err(Status::out_of_range(words));
            }
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(pieces);
            Ok(Response::new(()))
        })
    }
}

/// Whether a request is for more than `most` keys; read no farther than that. A broken one is for few.
fn has_more_keys(mut message: &[u8], most: usize) -> bool {
    let mut keys = 0;
    while keys <= most {
        match next(&mut message) {
            Ok(Some(Field::Uri(_))) => keys += 1,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return false,
        }
    }
    true
}

async fn answer(plane: &DataPlane, reads: &Reads, request: &Request<Bytes>) -> Result<Pieces, Status> {
    let asked = Asked::new(request.get_ref())?;
    if let Some(unbounded) = &plane.unbounded {
        let uris = asked.uris().map(str::to_owned).collect();
        let whole = Bytes::from(unbounded.post_records(uris).await?.encode_to_vec());
        return Ok(Pieces { length: whole.len(), pieces: vec![whole] });
    }
    let admitted = plane.gate.admit("GetPostRecords", asked.count, request.metadata())?;
    let call = admitted.call();
    admitted.run(posts(reads, &call, &asked)).await.map(Response::into_inner)
}

async fn posts(reads: &Reads, call: &Call, asked: &Asked<'_>) -> Result<Pieces, Failure> {
    let mut pace = Pace::default();
    let mut planner = Planner::with_capacity(asked.count);
    for uri in asked.uris() {
        // What cannot be such a record is an empty slot, without asking storage.
        planner.add(if collection(uri) == Some("app.bsky.feed.post") { uri } else { "" });
        pace.steps(1).await;
    }
    let plan = planner.done();
    let mut records = reads.read(call, &Records, &plan).await?;
    let mut reply = Reply::default();
    let nothing = no_record();
    for slot in plan.slots(&records) {
        reply.put(1, slot.map_or(&nothing, |stored| &stored.record));
        pace.steps(1).await;
    }
    let nothing = PostRecordMeta::default();
    for slot in plan.slots(&records) {
        reply.put(2, slot.map_or(&nothing, |stored| &stored.meta));
        pace.steps(1).await;
    }
    if asked.op_threads {
        for thread in threads_of(reads, call, &plan, &records).await? {
            reply.put(3, &thread);
            pace.steps(1).await;
        }
    }
    pace.free(records.drain()).await;
    pace.free(plan.keys).await;
    Ok(reply.done())
}

/// A request that was looked over, but not copied.
struct Asked<'a> {
    message: &'a [u8],
    /// How many keys it has.
    count: usize,
    op_threads: bool,
}

impl<'a> Asked<'a> {
    /// Counts the keys: a call is let in, or not, before any work is done for it.
    fn new(message: &'a [u8]) -> Result<Asked<'a>, Status> {
        let mut asked = Asked { message, count: 0, op_threads: false };
        let mut left = message;
        while let Some(field) = next(&mut left)? {
            match field {
                Field::Uri(_) => asked.count += 1,
                Field::OpThreads(wanted) => asked.op_threads = wanted,
                Field::Other => {}
            }
        }
        Ok(asked)
    }

    /// The keys in their order.
    fn uris(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut left = self.message;
        // There is no error left to be met: `new` has been through it.
        let fields = std::iter::from_fn(move || next(&mut left).ok().flatten());
        fields.filter_map(|field| match field {
            Field::Uri(uri) => Some(uri),
            Field::OpThreads(_) | Field::Other => None,
        })
    }
}

enum Field<'a> {
    Uri(&'a str),
    OpThreads(bool),
    Other,
}

/// The next field of a request; `None` at its end.
fn next<'a>(left: &mut &'a [u8]) -> Result<Option<Field<'a>>, Status> {
    if left.is_empty() {
        return Ok(None);
    }
    let broken = || Status::internal("the request is no message of GetPostRecords");
    let (tag, wire) = decode_key(left).map_err(|_| broken())?;
    Ok(Some(match (tag, wire) {
        (URIS, WireType::LengthDelimited) => {
            let length = decode_varint(left)
                .ok()
                .and_then(|length| usize::try_from(length).ok())
                .ok_or_else(broken)?;
            let (uri, rest) = left.split_at_checked(length).ok_or_else(broken)?;
            *left = rest;
            Field::Uri(std::str::from_utf8(uri).map_err(|_| broken())?)
        }
        (OP_THREADS, WireType::Varint) => Field::OpThreads(decode_varint(left).map_err(|_| broken())? != 0),
        (tag, wire) => {
            skip_field(wire, tag, left, DecodeContext::default()).map_err(|_| broken())?;
            Field::Other
        }
    }))
}

/// A reply's message in pieces.
struct Pieces {
    pieces: Vec<Bytes>,
    length: usize,
}

/// A reply that is being written.
#[derive(Default)]
struct Reply {
    pieces: Vec<Bytes>,
    length: usize,
    last: BytesMut,
}

impl Reply {
    fn put(&mut self, tag: u32, value: &impl Message) {
        message::encode(tag, value, &mut self.last);
        if self.last.len() >= PIECE {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.length += self.last.len();
        self.pieces.push(std::mem::take(&mut self.last).freeze());
    }

    fn done(mut self) -> Pieces {
        self.cut();
        Pieces { pieces: self.pieces, length: self.length }
    }
}

impl Pieces {
    /// As gRPC frames it. hyper takes the next piece only when there is room for it: what it has it writes in one go.
    fn body(self) -> Body {
        // Not compressed; a length that does not fit was refused.
        let mut prefix = BytesMut::with_capacity(5);
        prefix.put_u8(0);
        prefix.put_u32(u32::try_from(self.length).unwrap_or(u32::MAX));
        let trailers = HeaderMap::from_iter([(Status::GRPC_STATUS, HeaderValue::from_static("0"))]);
        let data = std::iter::once(prefix.freeze()).chain(self.pieces).map(Frame::data);
        let frames = data.chain([Frame::trailers(trailers)]).map(Ok::<_, Infallible>);
        Body::new(StreamBody::new(stream::iter(frames)))
    }
}

/// A request's bytes, read elsewhere; a reply's are written elsewhere.
struct Raw;

impl Codec for Raw {
    type Encode = ();
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bsky::{GetPostRecordsRequest, GetPostRecordsResponse, Record};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_request_is_read_as_the_generated_code_reads_it(
            uris in proptest::collection::vec("[a-zü:/]{0,12}", 0..40),
            viewer_did in proptest::option::of("[a-z]{0,5}"),
            include_op_thread_metadata: bool,
        ) {
            let request = GetPostRecordsRequest {
                uris: uris.clone(), viewer_did, include_op_thread_metadata, ..Default::default()
            };
            let bytes = request.encode_to_vec();
            let asked = Asked::new(&bytes).expect("a request");
            prop_assert_eq!((asked.count, asked.op_threads), (uris.len(), include_op_thread_metadata));
            prop_assert_eq!(asked.uris().collect::<Vec<_>>(), uris);
        }

        #[test]
        fn whatever_arrives_is_taken_or_refused_as_generated_code_does(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let generated = GetPostRecordsRequest::decode(&bytes[..]);
            if let (Ok(asked), Ok(request)) = (Asked::new(&bytes), generated) {
                prop_assert_eq!(asked.uris().collect::<Vec<_>>(), request.uris);
            }
        }
    }

    #[test]
    fn a_request_that_is_cut_off_or_no_text_is_refused() {
        let request = GetPostRecordsRequest { uris: vec!["at://a".into(); 3], ..Default::default() };
        let bytes = request.encode_to_vec();
        assert_eq!(Asked::new(&bytes[..16]).map(|asked| asked.count).ok(), Some(2));
        for cut in [1, 5, bytes.len() - 1] {
            assert!(Asked::new(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(Asked::new(&[0x0a, 1, 0xff]).is_err());
    }

    #[test]
    fn a_request_is_looked_over_no_farther_than_it_takes_to_know_that_it_is_large() {
        let request = GetPostRecordsRequest { uris: vec!["at://a".into(); 3], ..Default::default() };
        let mut bytes = request.encode_to_vec();
        assert!(has_more_keys(&bytes, 2) && !has_more_keys(&bytes, 3) && !has_more_keys(&[], 0));
        bytes.push(0x0a);
        assert!(has_more_keys(&bytes, 2), "what is broken comes behind");
        assert!(!has_more_keys(&bytes, 3), "refused where small calls are");
    }

    #[test]
    fn a_reply_in_pieces_is_the_message_that_generated_code_writes() {
        let record =
            Record { record: Bytes::from(vec![b'x'; 9_000]), cid: "name".into(), ..Default::default() };
        let meta = PostRecordMeta { has_media: true, ..Default::default() };
        let whole = GetPostRecordsResponse {
            records: vec![record.clone(); 50],
            meta: vec![meta; 50],
            op_threads: Vec::new(),
        };
        let mut reply = Reply::default();
        (0..50).for_each(|_| reply.put(1, &record));
        (0..50).for_each(|_| reply.put(2, &meta));
        let reply = reply.done();
        assert!(reply.pieces.len() > 5);
        assert_eq!(reply.pieces.concat(), whole.encode_to_vec());
        assert_eq!(reply.length, whole.encoded_len());
    }
}
