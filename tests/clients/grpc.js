'use strict';
// A gRPC client made of node's own http2, since Debian has no other for node: grpc.js NAME PORT CA
// calls the service of tests/blackbox/harness/grpcs.py. Ends with 0 and one line of what it did, or
// with 1 and why.
const assert = require('assert');
const fs = require('fs');
const http2 = require('http2');
const tls = require('tls');

const [name, port, ca] = process.argv.slice(2);
const SECONDS = 60;
const OK = 0, DEADLINE_EXCEEDED = 4, NOT_FOUND = 5;

// A message as it travels: not compressed, its length in front.
function framed(message) {
    const body = Buffer.from(message);
    const head = Buffer.alloc(5);
    head.writeUInt32BE(body.length, 1);
    return Buffer.concat([head, body]);
}

// One call. Messages come in `messages`; `next()` waits for one more, `end` is its trailers.
class Call {
    constructor(session, method, metadata = {}) {
        this.stream = session.request({
            ':method': 'POST', ':path': `/shop.Test/${method}`, ':scheme': 'https',
            ':authority': `${name}:${port}`, 'content-type': 'application/grpc', te: 'trailers', ...metadata,
        });
        this.messages = [];
        this.buffer = Buffer.alloc(0);
        this.wanted = null;
        this.headers = new Promise((resolve) => this.stream.once('response', resolve));
        this.end = new Promise((resolve, reject) => {
            let trailers = null;
            this.headers.then((headers) => { trailers ??= 'grpc-status' in headers ? headers : null; });
            this.stream.once('trailers', (given) => { trailers = given; });
            this.stream.once('error', reject);
            this.stream.once('close', () => trailers ? resolve(trailers) : reject(new Error('no trailers')));
        });
        this.end.catch(() => {});
        this.stream.on('data', (data) => this.take(data));
    }

    take(data) {
        this.buffer = Buffer.concat([this.buffer, data]);
        while (this.buffer.length >= 5 && this.buffer.length >= 5 + this.buffer.readUInt32BE(1)) {
            assert.strictEqual(this.buffer[0], 0, 'nothing was compressed');
            const size = 5 + this.buffer.readUInt32BE(1);
            this.messages.push(this.buffer.subarray(5, size));
            this.buffer = this.buffer.subarray(size);
        }
        if (this.wanted !== null && this.messages.length >= this.wanted.count) {
            this.wanted.resolve();
            this.wanted = null;
        }
    }

    async message(index) {
        if (this.messages.length <= index) {
            await new Promise((resolve) => { this.wanted = {count: index + 1, resolve}; });
        }
        return this.messages[index].toString();
    }

    send(message) {
        this.stream.write(framed(message));
    }

    async finish(status) {
        this.stream.end();
        const trailers = await this.end;
        assert.strictEqual(Number(trailers['grpc-status']), status, JSON.stringify(trailers));
        assert.strictEqual(this.buffer.length, 0, 'whole messages');
        return trailers;
    }
}

async function unary(session, message) {
    const call = new Call(session, 'Echo');
    call.send(message);
    const trailers = await call.finish(OK);
    const headers = await call.headers;
    assert.strictEqual(headers[':status'], 200);
    assert.strictEqual(headers['x-first'], 'one');
    assert.strictEqual(trailers['x-last'], 'two, three');
    assert.strictEqual(trailers['x-b-bin'].replace(/=+$/, ''), 'AP8');
    assert.strictEqual(call.messages.length, 1);
    assert.ok(Buffer.from(message).equals(call.messages[0]));
}

async function streams(session) {
    const count = new Call(session, 'Count');
    count.send('1000');
    assert.strictEqual((await count.finish(OK))['x-last'], 'counted');
    assert.deepStrictEqual(count.messages.map(Number), [...Array(1000).keys()]);

    const sum = new Call(session, 'Sum');
    for (let i = 0; i < 100; i++) {
        sum.send(String(i));
    }
    await sum.finish(OK);
    assert.strictEqual(await sum.message(0), '4950');

    const chat = new Call(session, 'Chat');
    for (let i = 0; i < 20; i++) { // each question waits for the answer before it
        chat.send(`question ${i}`);
        assert.strictEqual(await chat.message(i), `re: question ${i}`);
    }
    await chat.finish(OK);
}

async function failures(session) {
    const failing = new Call(session, 'Fail');
    failing.send('nö, 100% not');
    const trailers = await failing.finish(NOT_FOUND);
    assert.strictEqual(decodeURIComponent(trailers['grpc-message']), 'nö, 100% not');
    assert.strictEqual(Buffer.from(trailers['grpc-status-details-bin'], 'base64').toString(), '\b\x05rich');

    const late = new Call(session, 'Hang', {'grpc-timeout': '300m'});
    late.send('x');
    const began = Date.now();
    await late.finish(DEADLINE_EXCEEDED);
    assert.ok(Date.now() - began >= 250, 'not before its time');

    const left = new Call(session, 'Drip');
    left.send('drop');
    assert.strictEqual(await left.message(0), 'drop');
    left.stream.close(http2.constants.NGHTTP2_CANCEL);
    await assert.rejects(left.end);
}

setTimeout(() => { console.log(`not through after ${SECONDS} s`); process.exit(1); }, SECONDS * 1000);
(async () => {
    const session = http2.connect(`https://${name}:${port}`, {
        createConnection: () => tls.connect({
            host: '127.0.0.1', port, servername: name, ca: fs.readFileSync(ca), ALPNProtocols: ['h2'],
        }),
    });
    session.on('error', (error) => { console.log(error.stack); process.exit(1); });
    await unary(session, 'hello');
    await unary(session, '');
    await unary(session, Buffer.alloc(1 << 20, 'large'));
    await Promise.all(Array.from({length: 50}, (_, i) => unary(session, `call ${i}`)));
    await streams(session);
    await failures(session);
    await unary(session, 'still there');
    session.close();
    console.log(`node ${process.version}, http2: calls of one message and of many both ways, 50 at once, `
                + '1 MiB, metadata, trailers, statuses, a deadline, a cancelled call.');
    process.exit(0);
})().catch((error) => { console.log(error.stack); process.exit(1); });
