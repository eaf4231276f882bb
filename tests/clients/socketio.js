// socket.io against a server: socketio.js PORT. Two socket.io servers joined by each of its adapters; what is emitted at one
// reaches the clients of the other, and they ask each other about rooms and sockets.
'use strict';

const assert = require('node:assert');
const { createServer } = require('node:http');
const { once } = require('node:events');
const Redis = require('ioredis');
const { Server } = require('socket.io');
const { io } = require('socket.io-client');
const { createAdapter, createShardedAdapter } = require('@socket.io/redis-adapter');
const { createAdapter: createStreamsAdapter } = require('@socket.io/redis-streams-adapter');
const { redis, run, event, collector, until } = require('./steps');

let connections = [];

function connect() {
  const client = new Redis(redis);
  connections.push(client);
  return client;
}

const SHARDED = 'by shard channels';
const STREAM = 'by a stream';

const adapters = {
  'by channels and patterns': () => createAdapter(connect(), connect()),
  [SHARDED]: () => createShardedAdapter(connect(), connect()),
  [STREAM]: () => createStreamsAdapter(connect(), { blockTimeInMs: 200 }),
};

// A socket.io server on a free port with one client, and all that this client gets.
async function open(name) {
  const http = createServer();
  // Of these adapters only the one with a stream can give a client what it has missed.
  const connectionStateRecovery = name === STREAM ? {} : undefined;
  const server = new Server(http, { adapter: adapters[name](), transports: ['websocket'], connectionStateRecovery });
  const arrived = once(server, 'connection');
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const client = io(`http://127.0.0.1:${http.address().port}`, { transports: ['websocket'], reconnection: false });
  const got = collector();
  client.onAny((event, ...args) => {
    if (['hello', 'ask'].includes(event)) return;
    // With recovery the place in the stream comes along as the last argument.
    if (connectionStateRecovery) assert.match(args.pop(), /^\d+-\d+$/);
    got.push([event, ...args]);
  });
  await event(client, 'connect');
  const [socket] = await arrived;
  return { server, client, socket, got };
}

// Two that have heard of each other: subscriptions are on their way when the adapters are there, and say nothing when they
// are done.
async function both(name) {
  const nodes = [await open(name), await open(name)];
  for (const [from, to] of [nodes, [...nodes].reverse()]) {
    let heard = false;
    to.client.once('hello', () => (heard = true));
    await until(() => {
      if (!heard) from.server.to(to.socket.id).emit('hello');
      return heard;
    });
    await until(async () => (await from.server.of('/').adapter.serverCount()) === 2);
  }
  return nodes;
}

async function close(nodes) {
  for (const { server, client } of nodes) {
    client.disconnect();
    await server.close();
  }
  connections.splice(0).forEach((each) => each.disconnect());
}

const steps = {};
for (const name of Object.keys(adapters)) {
  let a;
  let b;

  steps[`${name}: a message emitted at one reaches the clients of both, once`] = async () => {
    [a, b] = await both(name);
    a.server.emit('news', 'one', { two: 2 });
    assert.deepStrictEqual(await a.got.has(1), [['news', 'one', { two: 2 }]]);
    assert.deepStrictEqual(await b.got.has(1), [['news', 'one', { two: 2 }]]);
    const bytes = Buffer.from([0, 255, 13, 10]);
    b.server.emit('bytes', bytes);
    assert.deepStrictEqual((await a.got.has(2))[1], ['bytes', bytes]);
    await b.got.has(2);
  };

  steps[`${name}: to rooms, to all but some, in order`] = async () => {
    await b.socket.join('room');
    if (name === SHARDED) {
      // The room has a channel of its own, which is subscribed to without waiting for the reply.
      const asking = connect();
      await until(async () => (await asking.pubsub('SHARDNUMSUB', 'socket.io#/#room#'))[1] === 1);
    }
    a.server.to('room').emit('to the room', 1);
    a.server.except('room').emit('to the others', 2);
    for (let i = 0; i < 100; i++) a.server.emit('numbers', i);
    const numbers = Array.from({ length: 100 }, (_, i) => ['numbers', i]);
    assert.deepStrictEqual((await a.got.has(103)).slice(2), [['to the others', 2], ...numbers]);
    const seen = (await b.got.has(103)).slice(2);
    // A room may have a channel of its own: no order is promised between it and the others.
    assert.deepStrictEqual(seen.filter(([event]) => event !== 'numbers'), [['to the room', 1]]);
    assert.deepStrictEqual(seen.filter(([event]) => event === 'numbers'), numbers);
  };

  steps[`${name}: questions from server to server, and to all clients`] = async () => {
    for (const [index, node] of [a, b].entries()) {
      node.client.on('ask', (question, answer) => answer(`${question} ${index}`));
      node.server.on('question', (question, answer) => answer(`${question} ${index}`));
    }
    const answers = await a.server.timeout(10_000).emitWithAck('ask', 'client');
    assert.deepStrictEqual(answers.sort(), ['client 0', 'client 1']);
    assert.deepStrictEqual(await a.server.serverSideEmitWithAck('question', 'server'), ['server 1']);
  };

  steps[`${name}: sockets of the other are found, moved, and sent away`] = async () => {
    const ids = (await a.server.fetchSockets()).map(({ id }) => id);
    assert.deepStrictEqual(ids.sort(), [a.socket.id, b.socket.id].sort());
    a.server.in(b.socket.id).socketsJoin('moved');
    await until(() => b.socket.rooms.has('moved'));
    assert.deepStrictEqual((await a.server.in('moved').fetchSockets()).map(({ id }) => id), [b.socket.id]);
    if (name === STREAM) {
      // The connection breaks, messages go on, and the client is given those that it has missed.
      const gone = once(b.socket, 'disconnect');
      const back = once(b.server, 'connection');
      const known = b.got.found.length;
      b.client.io.engine.close();
      await gone;
      a.server.to('moved').emit('missed', 1);
      a.server.emit('missed', 2);
      b.client.connect();
      [b.socket] = await back;
      assert.strictEqual(b.socket.recovered, true);
      assert.deepStrictEqual((await b.got.has(known + 2)).slice(known), [['missed', 1], ['missed', 2]]);
    }
    const left = event(b.client, 'disconnect');
    a.server.in('moved').disconnectSockets(true);
    await left;
    await close([a, b]);
  };
}

run(steps);
