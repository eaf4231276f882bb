// Bull 4 against a server: bull.js PORT. The predecessor of BullMQ, with ioredis 5 in RESP2: jobs taken with BRPOPLPUSH,
// events by publish and subscribe, scripts with bit and cmsgpack.
'use strict';

const assert = require('node:assert');
const Bull = require('bull');
const { redis, run, event, collector, until } = require('./steps');

function open(name, options = {}) {
  const queue = new Bull(name, { redis, ...options });
  queue.on('error', (error) => {
    throw error;
  });
  return queue;
}

run({
  async 'adds and processes'() {
    const queue = open('plain');
    queue.process(5, async (job) => job.data.n * 2);
    const job = await queue.add({ n: 21 });
    assert.strictEqual(await job.finished(), 42);
    const jobs = await queue.addBulk([1, 2, 3].map((n) => ({ data: { n } })));
    assert.deepStrictEqual(await Promise.all(jobs.map((each) => each.finished())), [2, 4, 6]);
    const counts = await queue.getJobCounts();
    assert.deepStrictEqual(counts, { waiting: 0, active: 0, completed: 4, failed: 0, delayed: 0, paused: 0 });
    await queue.close();
  },

  async 'events of another connection, progress'() {
    const queue = open('events');
    const watcher = open('events');
    const seen = collector();
    const registered = [];
    for (const name of ['waiting', 'active', 'progress', 'completed']) {
      registered.push(event(watcher, `registered:global:${name}`));
      watcher.on(`global:${name}`, (id, value) => seen.push([name, id, name === 'active' ? '' : value]));
    }
    await Promise.all(registered);
    queue.process(async (job) => {
      await job.progress(50);
      return 'done';
    });
    await queue.add({}, { jobId: 'own' });
    assert.deepStrictEqual(await seen.has(4), [
      ['waiting', 'own', null],
      ['active', 'own', ''],
      ['progress', 'own', 50],
      ['completed', 'own', '"done"'],
    ]);
    await watcher.close();
    await queue.close();
  },

  async 'retries with a delay between, and gives up'() {
    const queue = open('retry');
    queue.process(async (job) => {
      if (job.attemptsMade < job.data.fails) throw new Error(`attempt ${job.attemptsMade}`);
      return job.attemptsMade;
    });
    const job = await queue.add({ fails: 2 }, { attempts: 3, backoff: 20 });
    assert.strictEqual(await job.finished(), 2);
    const never = await queue.add({ fails: 9 }, { attempts: 2 });
    await assert.rejects(never.finished(), /attempt 1/);
    assert.strictEqual(await (await queue.getJob(never.id)).getState(), 'failed');
    await queue.close();
  },

  async 'priorities, last first, pause and resume'() {
    const queue = open('order');
    await queue.pause();
    const add = (name, opts) => queue.add({ name }, opts);
    await add('low', { priority: 10 });
    await add('high', { priority: 1 });
    await add('middle', { priority: 5 });
    await add('next to high', { priority: 1 });
    assert.strictEqual((await queue.getJobCounts()).paused, 4);
    const order = collector();
    queue.process(1, async (job) => order.push(job.data.name));
    await queue.resume();
    assert.deepStrictEqual(await order.has(4), ['high', 'next to high', 'middle', 'low']);
    await queue.close();
  },

  async 'delays, promotes, repeats'() {
    const queue = open('delay');
    const runs = collector();
    queue.process('later', async (job) => Date.now() - job.timestamp);
    queue.process('tick', async () => runs.push('tick'));
    const job = await queue.add('later', {}, { delay: 100 });
    const hour = await queue.add('later', {}, { delay: 3_600_000 });
    assert.ok((await job.finished()) >= 100);
    assert.strictEqual(await hour.getState(), 'delayed');
    await (await queue.getJob(hour.id)).promote();
    assert.ok((await hour.finished()) < 60_000);
    await queue.add('tick', {}, { repeat: { every: 50, limit: 3 } });
    assert.strictEqual((await queue.getRepeatableJobs()).length, 1);
    await runs.has(3);
    await queue.close();
  },

  async 'stalled jobs come back'() {
    const settings = { lockDuration: 100, stalledInterval: 50, lockRenewTime: 1e9 };
    const queue = open('stalled', { settings });
    await queue.add({});
    const lost = await queue.getNextJob();
    assert.strictEqual(await lost.getState(), 'active');
    await queue.close(true);
    const rescue = open('stalled', { settings: { ...settings, lockRenewTime: 50 } });
    const stalled = event(rescue, 'stalled');
    const completed = event(rescue, 'completed');
    rescue.process(async () => 'rescued');
    assert.strictEqual((await stalled)[0].id, lost.id);
    const [job, result] = await completed;
    assert.deepStrictEqual([job.id, result], [lost.id, 'rescued']);
    await rescue.close();
  },

  async 'limits, cleans, empties'() {
    const queue = open('limited', { limiter: { max: 2, duration: 150 } });
    queue.process(async () => Date.now());
    const jobs = await queue.addBulk([1, 2, 3, 4].map((n) => ({ data: n })));
    const times = [];
    for (const job of jobs) times.push(await job.finished());
    assert.ok(Math.max(...times) - Math.min(...times) >= 100, `two at a time: ${times}`);
    // What has ended in this very millisecond is not old enough.
    const cleaned = new Set();
    await until(async () => (await queue.clean(0, 'completed')).forEach((id) => cleaned.add(id)) ?? cleaned.size === 4);
    assert.strictEqual(await queue.getCompletedCount(), 0);
    await queue.pause();
    await queue.addBulk([{ data: 1 }, { data: 2 }]);
    await queue.empty();
    assert.strictEqual(await queue.count(), 0);
    await queue.obliterate({ force: true });
    assert.deepStrictEqual(await queue.client.keys('bull:limited:*'), []);
    await queue.close();
  },
});
