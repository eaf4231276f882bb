// Writes and reads by ioredis's Cluster until the input ends: cluster_load.js PORT. Any error, and any key that is not what was
// written last, ends it with status 1. `written` counts the rounds.
'use strict';

const assert = require('node:assert');
const path = require('node:path');
const { Cluster } = require(path.join(process.env.NODE_PATH, 'ioredis'));

(async () => {
  const cluster = new Cluster([{ host: '127.0.0.1', port: Number(process.argv[2]) }]);
  let ended = false;
  process.stdin.on('end', () => (ended = true)).resume();
  const last = new Map();
  let number = 0;
  while (!ended) {
    number += 1;
    const key = `key:${number % 300}`;
    assert.strictEqual(await cluster.get(key), last.get(key) ?? null, key);
    await cluster.set(key, number);
    last.set(key, String(number));
    await cluster.incr('written');
  }
  assert.strictEqual(Number(await cluster.get('written')), number);
  process.exit(0);
})().catch((error) => {
  console.log(error?.stack ?? error);
  process.exit(1);
});
