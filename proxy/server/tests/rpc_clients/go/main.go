// Go clients of a bsky.Service: grpc-go and connect-go, whose messages are bytes. Prints `ok NAME: figures` lines, then
// `done`. The same lines whatever stands between it and the service.
//
//	client PORT FLAVOUR agree            everything that a service does, directly or through weir
//	client PORT FLAVOUR refused BYTES    what a refusal looks like, and a message of more bytes than weir takes
//
// Flavours: grpc-go, and connect-go's connect-h2, connect-h1, grpc-h2, grpcweb-h2, grpcweb-h1.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	posts  = "/bsky.Service/GetPostRecords"
	stream = "/weir.test.Service/Stream"
	many   = 20_000
	large  = 8 << 20
	most   = 64 << 20
)

// Message is a protobuf message as bytes.
type Message struct{ bytes []byte }

type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(message any) ([]byte, error) {
	if own, is := message.(*Message); is {
		return own.bytes, nil
	}
	return proto.Marshal(message.(proto.Message))
}

// The status in an error's details is a real message.
func (raw) Unmarshal(bytes []byte, message any) error {
	if own, is := message.(*Message); is {
		own.bytes = append([]byte(nil), bytes...)
		return nil
	}
	return proto.Unmarshal(bytes, message.(proto.Message))
}

func request(keys ...string) []byte {
	var out []byte
	for _, key := range keys {
		out = append(out, 0x0a)
		out = binary.AppendUvarint(out, uint64(len(key)))
		out = append(out, key...)
	}
	return out
}

// What a call came to, in words that no transport changes.
type outcome struct {
	reply   []byte
	head    string
	end     string
	code    string
	message string
	details string
	retry   time.Duration
}

type flavour interface {
	call(ctx context.Context, headers map[string]string, message []byte) outcome
	// Receives so many messages of a stream, and leaves.
	leave(ctx context.Context, count int) error
}

func main() {
	port, name, phase := os.Args[1], os.Args[2], os.Args[3]
	var client flavour
	if name == "grpc-go" {
		client = dialGrpc(port)
	} else {
		client = dialConnect(port, name)
	}
	switch phase {
	case "agree":
		agree(client, strings.HasPrefix(name, "grpc") && !strings.HasSuffix(name, "-h1"))
	case "refused":
		bytes, err := strconv.Atoi(os.Args[4])
		check(err)
		refused(client, bytes)
	default:
		panic(phase)
	}
	fmt.Println("done")
}

func agree(client flavour, streams bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	defer cancel()
	call := func(keys ...string) outcome { return client.call(ctx, nil, request(keys...)) }

	ok("unary", digest(call("at://a", "at://bb", "at://a").expect("").reply))
	echo := map[string]string{"x-echo": "some text", "x-echo-two-bin": "\x00\x01\xfe\xff"}
	told := client.call(ctx, echo, request("at://a")).expect("")
	ok("metadata", told.head+told.end)
	ok("large request", digest(call(strings.Repeat("k", large)).expect("").reply))
	ok("large reply", digest(call(fmt.Sprintf("do:size:%d", large)).expect("").reply))
	told = call("do:error").expect("not_found")
	ok("error", told.message+" "+told.details)
	told = call("do:late").expect("data_loss")
	ok("late error", told.message+" "+told.details)

	keys := make([]string, many)
	for number := range keys {
		keys[number] = fmt.Sprintf("at://did:plc:abc/app.bsky.feed.post/%d", number*7919%many%9973)
	}
	ok("many keys", digest(call(keys...).expect("").reply))

	begun := time.Now()
	short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	client.call(short, nil, request("do:wait:20000")).expect("deadline_exceeded")
	stop()
	if took := time.Since(begun); took < 150*time.Millisecond || took > 5*time.Second {
		panic(fmt.Sprintf("a deadline of 200 ms took %v", took))
	}
	ok("deadline", "")
	if streams { // the service has no streams of Connect
		check(client.leave(ctx, 3))
		ok("leave", "")
	}
	ok("after", digest(call("at://z").expect("").reply))
}

func refused(client flavour, bytes int) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	defer cancel()
	keys := make([]string, 11)
	for number := range keys {
		keys[number] = fmt.Sprint(number)
	}
	begun := time.Now()
	told := client.call(ctx, nil, request(keys...))
	fmt.Printf("refused: %s after %v, retry in %v: %s\n", told.code, time.Since(begun).Round(100*time.Millisecond), told.retry, told.message)
	told = client.call(ctx, nil, request(strings.Repeat("k", bytes)))
	fmt.Printf("too large: %s: %s\n", told.code, told.message)
	told = client.call(ctx, nil, request("at://a"))
	fmt.Printf("after: %q\n", told.code)
}

type grpcGo struct{ conn *grpc.ClientConn }

func dialGrpc(port string) flavour {
	conn, err := grpc.NewClient("passthrough:///127.0.0.1:"+port,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(most), grpc.MaxCallSendMsgSize(most)))
	check(err)
	return grpcGo{conn}
}

func (client grpcGo) call(ctx context.Context, headers map[string]string, message []byte) outcome {
	for name, value := range headers {
		ctx = metadata.AppendToOutgoingContext(ctx, name, value)
	}
	var head, end metadata.MD
	var reply Message
	err := client.conn.Invoke(ctx, posts, &Message{message}, &reply, grpc.Header(&head), grpc.Trailer(&end))
	told := outcome{reply: reply.bytes, head: words(head), end: words(end)}
	if err != nil {
		state := status.Convert(err)
		told.code, told.message = snake(state.Code()), state.Message()
		for _, detail := range state.Proto().GetDetails() {
			told.details += fmt.Sprintf("%s %x;", detail.GetTypeUrl(), detail.GetValue())
		}
		for _, detail := range state.Details() {
			if retry, is := detail.(*errdetails.RetryInfo); is {
				told.retry = retry.GetRetryDelay().AsDuration()
			}
		}
	}
	return told
}

func (client grpcGo) leave(ctx context.Context, count int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages, err := client.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, stream)
	if err != nil {
		return err
	}
	if err := errors.Join(messages.SendMsg(&Message{}), messages.CloseSend()); err != nil {
		return err
	}
	for range count {
		if err := messages.RecvMsg(&Message{}); err != nil {
			return err
		}
	}
	return nil
}

// RESOURCE_EXHAUSTED as connect-go writes it.
func snake(code codes.Code) string {
	return connect.Code(code).String()
}

type connectGo struct {
	client *http.Client
	url    string
	more   []connect.ClientOption
}

func dialConnect(port, name string) flavour {
	protocols := new(http.Protocols)
	if strings.HasSuffix(name, "-h1") {
		protocols.SetHTTP1(true)
	} else {
		protocols.SetUnencryptedHTTP2(true)
	}
	more := []connect.ClientOption{connect.WithCodec(raw{})}
	switch strings.Split(name, "-")[0] {
	case "grpc":
		more = append(more, connect.WithGRPC())
	case "grpcweb":
		more = append(more, connect.WithGRPCWeb())
	}
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	return connectGo{client, "http://127.0.0.1:" + port, more}
}

func (client connectGo) call(ctx context.Context, headers map[string]string, message []byte) outcome {
	one := connect.NewClient[Message, Message](client.client, client.url+posts, client.more...)
	request := connect.NewRequest(&Message{message})
	for name, value := range headers {
		if strings.HasSuffix(name, "-bin") {
			value = connect.EncodeBinaryHeader([]byte(value))
		}
		request.Header().Set(name, value)
	}
	reply, err := one.CallUnary(ctx, request)
	if err == nil {
		return outcome{reply: reply.Msg.bytes, head: words(decoded(reply.Header())), end: words(decoded(reply.Trailer()))}
	}
	told := outcome{code: connect.CodeOf(err).String(), message: err.Error()}
	if failure := new(connect.Error); errors.As(err, &failure) {
		told.message = failure.Message()
		for _, detail := range failure.Details() {
			told.details += fmt.Sprintf("type.googleapis.com/%s %x;", detail.Type(), detail.Bytes())
			if value, err := detail.Value(); err == nil {
				if retry, is := value.(*errdetails.RetryInfo); is {
					told.retry = retry.GetRetryDelay().AsDuration()
				}
			}
		}
	}
	return told
}

func (client connectGo) leave(ctx context.Context, count int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	one := connect.NewClient[Message, Message](client.client, client.url+stream, client.more...)
	messages, err := one.CallServerStream(ctx, connect.NewRequest(&Message{}))
	if err != nil {
		return err
	}
	for range count {
		if !messages.Receive() {
			return errors.Join(errors.New("the stream ended"), messages.Err())
		}
	}
	cancel()
	if err := messages.Close(); err != nil && !errors.Is(err, context.Canceled) && err != io.EOF {
		return nil // it was left, however that is told
	}
	return nil
}

func decoded(headers http.Header) metadata.MD {
	out := metadata.MD{}
	for name, values := range headers {
		name = strings.ToLower(name)
		for _, value := range values {
			if strings.HasSuffix(name, "-bin") {
				bytes, err := connect.DecodeBinaryHeader(value)
				check(err)
				value = string(bytes)
			}
			out.Append(name, value)
		}
	}
	return out
}

// Metadata that the service gave back, sorted by hand: there are four.
func words(all metadata.MD) string {
	out := ""
	for _, name := range []string{"x-echo", "x-echo-two-bin", "x-end", "x-end-two-bin"} {
		for _, value := range all.Get(name) {
			out += name + "=" + base64.StdEncoding.EncodeToString([]byte(value)) + " "
		}
	}
	return out
}

func (told outcome) expect(code string) outcome {
	if told.code != code {
		panic(fmt.Sprintf("%q is not %q: %s", told.code, code, told.message))
	}
	return told
}

func digest(bytes []byte) string {
	return fmt.Sprintf("%d bytes %x", len(bytes), sha256.Sum256(bytes))[:40]
}

func ok(name, said string) { fmt.Printf("ok %s: %s\n", name, said) }

func check(err error) {
	if err != nil {
		panic(err)
	}
}
