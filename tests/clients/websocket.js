'use strict';
// A WebSocket client of node (Debian's node-ws) over TLS: websocket.js NAME PORT CA. Ends with 0 and
// one line of what it did, or with 1 and why.
const assert = require('assert');
const crypto = require('crypto');
const fs = require('fs');
const WebSocket = require('ws');

const [name, port, ca] = process.argv.slice(2);
const SECONDS = 60;
const options = {
    ca: fs.readFileSync(ca), servername: name, headers: {Host: `${name}:${port}`}, maxPayload: 1 << 24,
};

const open = (path, more = {}) => new WebSocket(`wss://127.0.0.1:${port}${path}`, {...options, ...more});

const event = (socket, what) => new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.once(what, (...values) => {
        socket.off('error', reject);
        resolve(values);
    });
});

// Sends one message, whole or in pieces, and waits for it to come back.
async function echo(socket, message, pieces = 1) {
    const answer = event(socket, 'message');
    const size = Math.ceil(message.length / pieces);
    for (let i = 0; i < pieces; i++) {
        socket.send(message.slice(i * size, (i + 1) * size), {fin: i === pieces - 1});
    }
    const [data, binary] = await answer;
    assert.strictEqual(binary, Buffer.isBuffer(message));
    assert.ok(Buffer.from(message).equals(data), `a message of ${message.length} came back altered`);
}

async function converse(compressed) {
    const socket = open('/echo', {perMessageDeflate: compressed});
    await event(socket, 'open');
    assert.strictEqual(socket.extensions, compressed ? 'permessage-deflate' : '');
    for (const message of ['hello', '', 'x'.repeat(300000), crypto.randomBytes(1 << 20)]) {
        await echo(socket, message);
    }
    await echo(socket, 'a text in pieces', 5);
    await echo(socket, crypto.randomBytes(100000), 7);
    const pong = event(socket, 'pong');
    socket.ping('are you there');
    assert.strictEqual((await pong)[0].toString(), 'are you there');
    const closed = event(socket, 'close');
    socket.close(4001, 'enough');
    assert.strictEqual((await closed)[0], 4001);
}

async function many() {
    await Promise.all(Array.from({length: 20}, async (_, number) => {
        const socket = open('/echo');
        await event(socket, 'open');
        for (let i = 0; i < 50; i++) {
            await echo(socket, `${number}: ${i}`);
        }
        socket.close();
        await event(socket, 'close');
    }));
}

// A route that does not switch serves the request as if it had not asked.
async function refused() {
    const socket = open('/');
    const [, response] = await new Promise((resolve) => {
        socket.on('unexpected-response', (...values) => resolve(values));
        socket.on('open', () => resolve([null, {statusCode: 101}]));
    });
    assert.strictEqual(response.statusCode, 200);
    socket.on('error', () => {});
    socket.terminate();
}

setTimeout(() => { console.log(`not through after ${SECONDS} s`); process.exit(1); }, SECONDS * 1000);
(async () => {
    await converse(true);
    await converse(false);
    await many();
    await refused();
    console.log(`node ${process.version}, ws ${require('ws/package.json').version}: texts and binaries up to `
                + '1 MiB, in pieces, compressed and not, ping, close code, 20 sockets at once, a refusal.');
    process.exit(0);
})().catch((error) => { console.log(error.stack); process.exit(1); });
