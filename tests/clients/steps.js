// What the programs of one framework each have in common: steps in order, a line for each, an end at the first that goes wrong,
// and a limit on the whole.
'use strict';

const Redis = require('ioredis');

const redis = { host: '127.0.0.1', port: Number(process.argv[2]) };

// Below the patience of tests/compat, so that it is this program that says which step hangs.
const LIMIT_MS = 45_000;

// Empties the server, runs the functions of `steps` in order, and ends the process: with status 1 at the first that throws, or at the limit.
async function run(steps) {
  let name = 'nothing yet';
  const fail = (why) => {
    console.log(`FAILED: ${name}: ${why}`);
    process.exit(1);
  };
  setTimeout(() => fail(`no end after ${LIMIT_MS} ms`), LIMIT_MS);
  process.on('unhandledRejection', (error) => fail(`a promise that nobody waits for: ${error?.stack ?? error}`));
  process.on('uncaughtException', (error) => fail(`not caught: ${error?.stack ?? error}`));
  const client = new Redis(redis);
  await client.flushall();
  client.disconnect();
  for (const [next, step] of Object.entries(steps)) {
    name = next;
    const begun = Date.now();
    try {
      await step();
    } catch (error) {
      fail(error?.stack ?? error);
    }
    console.log(`ok: ${name}, ${Date.now() - begun} ms`);
  }
  process.exit(0);
}

// The arguments of the first event `name` that `matches`. Errors of the emitter are told by whoever waits for it.
function event(emitter, name, matches = () => true) {
  return new Promise((resolve) => {
    const listen = (...args) => {
      if (!matches(...args)) return;
      emitter.off(name, listen);
      resolve(args);
    };
    emitter.on(name, listen);
  });
}

// A list that can be waited for: `push` adds, `has(count)` resolves with the list when it is that long.
function collector() {
  const found = [];
  let waiting = [];
  return {
    found,
    push(item) {
      found.push(item);
      waiting = waiting.filter(({ count, resolve }) => found.length < count || resolve(found));
    },
    has: (count) =>
      new Promise((resolve) => (found.length >= count ? resolve(found) : waiting.push({ count, resolve }))),
  };
}

// Polls until `look` resolves with something true, for what nobody announces. The limit on the whole ends it.
async function until(look) {
  for (;;) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

module.exports = { redis, run, event, collector, until };
