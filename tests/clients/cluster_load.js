// Writes and reads by ioredis's Cluster or by node-redis's until the input ends: cluster_load.js PORT CLIENT. Any error, and any key
// that is not what was written last, or was written twice, ends it with status 1. `written` counts the rounds.
'use strict';

const assert = require('node:assert');
const path = require('node:path');
const { Cluster } = require(path.join(process.env.NODE_PATH, 'ioredis'));
const { createCluster } = require(path.join(process.env.NODE_PATH, '@redis/client'));

const port = Number(process.argv[2]);
const KEYS = 60;
const SCRIPT = "return redis.call('INCRBY', KEYS[1], ARGV[1])";

// Both under the same names.
const clients = {
  async ioredis() {
    const cluster = new Cluster([{ host: '127.0.0.1', port }]);
    return {
      workers: 4,
      get: (key) => cluster.get(key),
      set: (key, value) => cluster.set(key, value),
      incr: (key) => cluster.incr(key),
      push: (key, value) => cluster.rpush(key, value),
      evaluate: (key) => cluster.eval(SCRIPT, 1, key, 1),
      pipeline: async (one, other, value) => {
        const replies = await cluster.pipeline().set(one, value).set(other, value).get(one).get(other).exec();
        return replies.map(([error, reply]) => {
          if (error) throw error;
          return reply;
        });
      },
      transaction: async (one, other) => {
        const replies = await cluster
          .multi()
          .incr(one)
          .incr(other)
          .exec()
          .catch((error) => {
            // ioredis follows redirections itself when all requests were told the same.
            const before = (error.previousErrors || []).map(({ message }) => message);
            throw new Error(`${error.message} ${JSON.stringify(before)}`);
          });
        return replies.map(([error, reply]) => {
          if (error) throw error;
          return reply;
        });
      },
    };
  },

  async 'node-redis'() {
    const cluster = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${port}` }] });
    // The connections of a node that leaves end.
    cluster.on('error', () => {});
    await cluster.connect();
    return {
      // node-redis fails what is under way to a node when it finds that this has no slots any more: one request at a time.
      workers: 1,
      get: (key) => cluster.get(key),
      set: (key, value) => cluster.set(key, String(value)),
      incr: (key) => cluster.incr(key),
      push: (key, value) => cluster.rPush(key, String(value)),
      evaluate: (key) => cluster.eval(SCRIPT, { keys: [key], arguments: ['1'] }),
      pipeline: async (one, other, value) => {
        const written = [await cluster.set(one, value), await cluster.set(other, value)];
        return [...written, await cluster.get(one), await cluster.get(other)];
      },
      transaction: (one, other) => cluster.multi().incr(one).incr(other).exec(),
    };
  },
};

// What each of its keys goes through, once more each time.
const forms = [
  async (client, key, count) => {
    assert.strictEqual(await client.get(key), count === 1 ? null : String(count - 1), key);
    assert.strictEqual(await client.set(key, count), 'OK', key);
  },
  async (client, key, count) => assert.strictEqual(await client.incr(key), count, key),
  async (client, key, count) => assert.strictEqual(await client.push(key, count), count, key),
  async (client, key, count) => assert.strictEqual(await client.evaluate(key), count, key),
  async (client, key, count) => {
    const text = String(count);
    assert.deepStrictEqual(await client.pipeline(key, `{${key}}:beside`, text), ['OK', 'OK', text, text], key);
  },
  async (client, key, count) => {
    assert.deepStrictEqual(await client.transaction(key, `{${key}}:beside`), [count, count], key);
  },
];

(async () => {
  const client = await clients[process.argv[3]]();
  let ended = false;
  process.stdin.on('end', () => (ended = true)).resume();
  let rounds = 0;
  // Several at once, each with keys of its own, over the same connections.
  const work = async (worker) => {
    for (let round = 0; !ended; round++) {
      const index = round % KEYS;
      const count = Math.floor(round / KEYS) + 1;
      await forms[index % forms.length](client, `load:${worker}:${index}`, count);
      await client.incr('written');
      rounds += 1;
    }
  };
  await Promise.all(Array.from({ length: client.workers }, (_, worker) => work(worker)));
  assert.strictEqual(Number(await client.get('written')), rounds);
  process.exit(0);
})().catch((error) => {
  console.log(error?.stack ?? error);
  process.exit(1);
});
