// BullMQ against a server: bullmq.js PORT. Its queues, workers, events and flows live on some fifty scripts, streams and
// blocking pops of sorted sets.
'use strict';

const assert = require('node:assert');
const { createHash } = require('node:crypto');
const Redis = require('ioredis');
const { FlowProducer, Queue, QueueEvents, Relay, UnrecoverableError, WaitingChildrenError, Worker } = require('bullmq');
const { redis, run, event, collector, until } = require('./steps');

const connection = { ...redis, maxRetriesPerRequest: null };
const failOnError = (error) => {
  throw error;
};

// A queue with its events, and workers to be added; `close` closes them all as an application does.
async function open(name, options = {}) {
  const queue = new Queue(name, { connection, ...options });
  const events = new QueueEvents(name, { connection, lastEventId: '0-0' });
  const workers = [];
  for (const each of [queue, events]) each.on('error', failOnError);
  await events.waitUntilReady();
  return {
    queue,
    events,
    async worker(processor, more = {}) {
      const worker = new Worker(name, processor, { connection, ...more });
      worker.on('error', failOnError);
      workers.push(worker);
      await worker.waitUntilReady();
      return worker;
    },
    async close() {
      for (const each of [...workers, events, queue]) await each.close();
    },
  };
}

// What `getJobCounts` says of these states.
const counts = (queue, ...states) => queue.getJobCounts(...states);

run({
  async 'every script of it is compiled'() {
    const client = new Redis(redis);
    const scripts = Object.values(require('bullmq/dist/cjs/scripts')).filter(({ content }) => content);
    assert.ok(scripts.length > 50);
    for (const { name, content } of scripts) {
      const sha = createHash('sha1').update(content).digest('hex');
      assert.strictEqual(await client.script('LOAD', content), sha, name);
    }
    client.disconnect();
  },

  async 'adds and processes'() {
    const q = await open('plain');
    await q.worker(async (job) => ({ doubled: job.data.n * 2, name: job.name }));
    const job = await q.queue.add('double', { n: 21 });
    assert.deepStrictEqual(await job.waitUntilFinished(q.events), { doubled: 42, name: 'double' });
    const stored = await q.queue.getJob(job.id);
    assert.deepStrictEqual(stored.returnvalue, { doubled: 42, name: 'double' });
    assert.strictEqual(await stored.getState(), 'completed');
    const jobs = await q.queue.addBulk([1, 2, 3].map((n) => ({ name: 'bulk', data: { n } })));
    const results = await Promise.all(jobs.map((each) => each.waitUntilFinished(q.events)));
    assert.deepStrictEqual(results.map((each) => each.doubled), [2, 4, 6]);
    assert.deepStrictEqual(await counts(q.queue, 'completed', 'wait', 'active', 'failed'), {
      completed: 4,
      wait: 0,
      active: 0,
      failed: 0,
    });
    await q.close();
  },

  async 'waits without polling, many workers'() {
    const q = await open('waiting');
    const seen = new Set();
    for (let i = 0; i < 3; i++) {
      await q.worker(async (job) => job.data, { concurrency: 5 });
    }
    const jobs = await q.queue.addBulk(Array.from({ length: 200 }, (_, n) => ({ name: 'n', data: n })));
    for (const job of jobs) seen.add(await job.waitUntilFinished(q.events));
    assert.strictEqual(seen.size, 200);
    await q.close();
  },

  async 'order: first come first served, last first, by priority'() {
    const q = await open('order');
    await q.queue.pause();
    const add = (name, opts) => q.queue.add(name, {}, opts);
    await add('low', { priority: 10 });
    await add('first');
    await add('second');
    await add('high', { priority: 1 });
    await add('high too', { priority: 1 });
    await add('before all', { lifo: true });
    const changed = await add('changed', { priority: 20 });
    await changed.changePriority({ priority: 2 });
    assert.deepStrictEqual(await q.queue.getCountsPerPriority([0, 1, 2, 10, 20]), { 0: 3, 1: 2, 2: 1, 10: 1, 20: 0 });
    const order = collector();
    await q.worker(async (job) => order.push(job.name), { concurrency: 1 });
    await q.queue.resume();
    const expected = ['before all', 'first', 'second', 'high', 'high too', 'changed', 'low'];
    assert.deepStrictEqual(await order.has(7), expected);
    await q.close();
  },

  async 'retries, with and without delay between, and gives up'() {
    const q = await open('retry');
    const worker = await q.worker(
      async (job) => {
        if (job.data.fatal) throw new UnrecoverableError('fatal');
        if (job.attemptsMade < job.data.fails) throw new Error(`attempt ${job.attemptsMade}`);
        return job.attemptsMade;
      },
      { maxStalledCount: 0 },
    );
    const now = await q.queue.add('now', { fails: 2 }, { attempts: 3 });
    assert.strictEqual(await now.waitUntilFinished(q.events), 2);
    const later = await q.queue.add('later', { fails: 2 }, { attempts: 3, backoff: { type: 'exponential', delay: 20 } });
    assert.strictEqual(await later.waitUntilFinished(q.events), 2);
    const stored = await q.queue.getJob(later.id);
    assert.strictEqual(stored.attemptsMade, 3);
    assert.strictEqual(stored.stacktrace.length, 2);
    assert.ok(stored.processedOn - stored.timestamp >= 20 + 40, 'waited between');
    const exhausted = event(q.events, 'retries-exhausted');
    const never = await q.queue.add('never', { fails: 9 }, { attempts: 2 });
    await assert.rejects(never.waitUntilFinished(q.events), /attempt 1/);
    assert.deepStrictEqual((await exhausted)[0], { jobId: never.id, attemptsMade: '2' });
    const fatal = await q.queue.add('fatal', { fatal: true }, { attempts: 9 });
    await assert.rejects(fatal.waitUntilFinished(q.events), /fatal/);
    assert.strictEqual((await q.queue.getJob(fatal.id)).attemptsMade, 1);
    assert.strictEqual(await q.queue.getFailedCount(), 2);
    // What failed is sent round again, one by one and all at once.
    const again = event(q.events, 'failed', ({ jobId }) => jobId === never.id);
    await (await q.queue.getJob(never.id)).retry();
    await again;
    await worker.pause();
    await q.queue.retryJobs({ count: 10 });
    assert.deepStrictEqual(await counts(q.queue, 'wait', 'failed'), { wait: 2, failed: 0 });
    await q.close();
  },

  async 'delays'() {
    const q = await open('delay');
    await q.worker(async (job) => Date.now() - job.timestamp);
    const job = await q.queue.add('later', {}, { delay: 150 });
    assert.strictEqual(await job.getState(), 'delayed');
    const hour = await q.queue.add('in an hour', {}, { delay: 3_600_000 });
    const sooner = await q.queue.add('sooner', {}, { delay: 3_600_000 });
    await sooner.changeDelay(100);
    assert.ok((await job.waitUntilFinished(q.events)) >= 150);
    assert.ok((await sooner.waitUntilFinished(q.events)) >= 100);
    assert.deepStrictEqual((await q.queue.getDelayed()).map((each) => each.id), [hour.id]);
    await hour.promote();
    assert.ok((await hour.waitUntilFinished(q.events)) < 60_000);
    await q.close();
  },

  async 'repeats: job schedulers by interval and by pattern'() {
    const q = await open('repeat');
    const runs = collector();
    await q.worker(async (job) => runs.push(job.name));
    await q.queue.upsertJobScheduler('often', { every: 50, limit: 3 }, { name: 'tick', data: { n: 1 } });
    await q.queue.upsertJobScheduler('nightly', { pattern: '0 3 * * *', tz: 'Europe/Paris' }, { name: 'night' });
    assert.deepStrictEqual((await q.queue.getJobSchedulers()).map(({ key }) => key).sort(), ['nightly', 'often']);
    const nightly = await q.queue.getJobScheduler('nightly');
    assert.strictEqual(nightly.pattern, '0 3 * * *');
    assert.ok(nightly.next > Date.now());
    assert.deepStrictEqual(await runs.has(3), ['tick', 'tick', 'tick']);
    assert.strictEqual(await q.queue.removeJobScheduler('nightly'), true);
    assert.strictEqual(await q.queue.removeJobScheduler('nightly'), false);
    assert.strictEqual((await q.queue.getDelayed()).filter(({ name }) => name === 'night').length, 0);
    await q.close();
  },

  async 'pauses and resumes'() {
    const q = await open('pause');
    const done = collector();
    await q.worker(async (job) => done.push(job.name));
    const paused = event(q.events, 'paused');
    await q.queue.pause();
    await paused;
    assert.strictEqual(await q.queue.isPaused(), true);
    const job = await q.queue.add('while paused', {});
    // Nothing may happen: a job of another queue that goes through shows that there was time for it.
    const other = await open('meanwhile');
    await other.worker(async () => 1);
    await (await other.queue.add('x', {})).waitUntilFinished(other.events);
    assert.deepStrictEqual(done.found, []);
    const resumed = event(q.events, 'resumed');
    await q.queue.resume();
    await resumed;
    await job.waitUntilFinished(q.events);
    assert.deepStrictEqual(done.found, ['while paused']);
    await other.close();
    await q.close();
  },

  async 'flows: children first, their values, nested, and a failed child'() {
    const q = await open('parents');
    const children = await open('children');
    const flow = new FlowProducer({ connection });
    await children.worker(async (job) => {
      if (job.data.fail) throw new Error('child failed');
      return job.data.n;
    });
    await q.worker(async (job) => Object.values(await job.getChildrenValues()).sort());
    const child = (n, more = {}) => ({ name: `child ${n}`, queueName: 'children', data: { n }, ...more });
    const tree = await flow.add({
      name: 'top',
      queueName: 'parents',
      children: [{ name: 'middle', queueName: 'parents', children: [child(1), child(2)] }, child(3)],
    });
    assert.deepStrictEqual(await tree.job.waitUntilFinished(q.events), [3, [1, 2]].sort());
    const read = await flow.getFlow({ id: tree.job.id, queueName: 'parents' });
    assert.deepStrictEqual(read.children.map(({ job }) => job.name).sort(), ['child 3', 'middle']);
    const failing = await flow.add({
      name: 'fails',
      queueName: 'parents',
      children: [{ name: 'bad', queueName: 'children', data: { fail: true }, opts: { failParentOnFailure: true } }],
    });
    await assert.rejects(failing.job.waitUntilFinished(q.events), /child .*failed/);
    const ignoring = await flow.add({
      name: 'ignores',
      queueName: 'parents',
      children: [
        { name: 'bad', queueName: 'children', data: { fail: true }, opts: { ignoreDependencyOnFailure: true } },
        child(7),
      ],
    });
    assert.deepStrictEqual(await ignoring.job.waitUntilFinished(q.events), [7]);
    assert.deepStrictEqual(await ignoring.job.getDependenciesCount({ processed: true, ignored: true }), { processed: 1, ignored: 1 });
    assert.deepStrictEqual(Object.values((await ignoring.job.getDependencies({ processed: {} })).processed), [7]);
    // A parent that is freed of one child waits for the other.
    await children.queue.pause();
    const freed = await flow.add({ name: 'freed', queueName: 'parents', children: [child(8), child(9)] });
    assert.strictEqual(await freed.children[0].job.removeChildDependency(), true);
    assert.strictEqual(await freed.job.getState(), 'waiting-children');
    await freed.job.removeUnprocessedChildren();
    assert.deepStrictEqual(await freed.job.waitUntilFinished(q.events), []);
    await flow.close();
    await children.close();
    await q.close();
  },

  async 'a job that adds its children while it runs'() {
    const q = await open('steps');
    await q.worker(async (job, token) => {
      if (job.name === 'child') return 'done';
      if (job.data.waited) return job.getChildrenValues();
      await q.queue.add('child', {}, { parent: { id: job.id, queue: job.queueQualifiedName } });
      await job.updateData({ waited: true });
      assert.strictEqual(await job.moveToWaitingChildren(token), true);
      throw new WaitingChildrenError();
    });
    const job = await q.queue.add('parent', {});
    assert.deepStrictEqual(Object.values(await job.waitUntilFinished(q.events)), ['done']);
    await q.close();
  },

  async 'events in order, progress and logs'() {
    const q = await open('events');
    const seen = collector();
    for (const name of ['added', 'waiting', 'active', 'progress', 'completed', 'drained']) {
      q.events.on(name, ({ jobId, data }) => seen.push([name, jobId, data]));
    }
    await q.worker(async (job) => {
      await job.updateProgress({ percent: 50 });
      await job.log('half');
      assert.strictEqual(await job.log('way'), 2);
      return 'done';
    });
    await q.queue.add('one', {}, { jobId: 'own-id' });
    assert.deepStrictEqual(await seen.has(6), [
      ['added', 'own-id', undefined],
      ['waiting', 'own-id', undefined],
      ['active', 'own-id', undefined],
      ['progress', 'own-id', { percent: 50 }],
      ['completed', 'own-id', undefined],
      ['drained', undefined, undefined],
    ]);
    assert.deepStrictEqual(await q.queue.getJobLogs('own-id'), { logs: ['half', 'way'], count: 2 });
    assert.deepStrictEqual((await q.queue.getJob('own-id')).progress, { percent: 50 });
    assert.ok((await q.queue.trimEvents(0)) > 0);
    await q.close();
  },

  async 'a worker that dies: stalled jobs come back, and fail when it happens too often'() {
    const q = await open('stalled');
    // It takes a job by hand and never comes back to it.
    const dead = await q.worker(null, { lockDuration: 50, skipLockRenewal: true });
    await q.queue.add('lost', {});
    const lost = await dead.getNextJob('token');
    assert.strictEqual(await lost.getState(), 'active');
    const stalled = event(q.events, 'stalled');
    const worker = await q.worker(async () => 'rescued', { stalledInterval: 50, lockDuration: 1000 });
    assert.deepStrictEqual((await stalled)[0], { jobId: lost.id });
    assert.strictEqual(await lost.waitUntilFinished(q.events), 'rescued');
    await worker.close();
    await assert.rejects(lost.moveToCompleted('too late', 'token'), /Missing lock|not in the active state/);
    await q.queue.add('lost again', {});
    const again = await dead.getNextJob('token');
    const failed = event(q.events, 'failed', ({ jobId }) => jobId === again.id);
    await q.worker(async () => 'never', { stalledInterval: 50, maxStalledCount: 0 });
    assert.match((await failed)[0].failedReason, /stalled more than allowable limit/);
    await q.close();
  },

  async 'by hand: token, lock, completion and failure'() {
    const q = await open('hand');
    const worker = await q.worker(null);
    await q.queue.addBulk([{ name: 'a', data: {} }, { name: 'b', data: {} }]);
    const a = await worker.getNextJob('mine');
    assert.strictEqual(await a.extendLock('mine', 30_000), 1);
    assert.deepStrictEqual(await worker.extendJobLocks([a.id, 'none'], ['mine', 'mine'], 30_000), ['none']);
    await assert.rejects(a.moveToCompleted('x', 'not mine'), /lock mismatch|Missing lock|not owned/i);
    const [next, id] = await a.moveToCompleted('x', 'mine');
    assert.strictEqual(next.name, 'b');
    const b = await q.queue.getJob(id);
    await b.moveToFailed(new Error('no'), 'mine', false);
    assert.strictEqual(await b.getState(), 'failed');
    assert.strictEqual(await worker.getNextJob('mine', { block: false }), undefined);
    await b.retry();
    const again = await worker.getNextJob('mine');
    assert.strictEqual(await again.getState(), 'active');
    await again.moveToWait('mine');
    assert.strictEqual(await again.getState(), 'waiting');
    await q.close();
  },

  async 'limits: rate, global concurrency, deduplication'() {
    const q = await open('limits');
    await q.worker(async () => Date.now(), { limiter: { max: 2, duration: 150 }, metrics: { maxDataPoints: 10 } });
    const jobs = await q.queue.addBulk(Array.from({ length: 4 }, (_, n) => ({ name: 'n', data: n })));
    const times = [];
    for (const job of jobs) times.push(await job.waitUntilFinished(q.events));
    assert.ok(Math.max(...times) - Math.min(...times) >= 100, `two at a time: ${times}`);
    assert.ok((await q.queue.getRateLimitTtl(2)) <= 150);
    assert.strictEqual((await q.queue.getMetrics('completed')).meta.count, 4);
    await q.close();

    const one = await open('one at a time');
    await one.queue.setGlobalConcurrency(1);
    assert.strictEqual(await one.queue.isMaxed(), false);
    let active = 0;
    let most = 0;
    await one.worker(
      async () => {
        most = Math.max(most, ++active);
        await new Promise(setImmediate);
        active--;
      },
      { concurrency: 5 },
    );
    const all = await one.queue.addBulk(Array.from({ length: 10 }, (_, n) => ({ name: 'n', data: n })));
    for (const job of all) await job.waitUntilFinished(one.events);
    assert.strictEqual(most, 1);
    await one.close();

    const same = await open('same');
    await same.queue.pause();
    const deduplication = { id: 'same', ttl: 60_000 };
    const first = await same.queue.add('x', {}, { deduplication });
    const second = await same.queue.add('x', {}, { deduplication });
    assert.strictEqual(second.id, first.id);
    assert.strictEqual(await same.queue.getDeduplicationJobId('same'), first.id);
    assert.strictEqual(await same.queue.count(), 1);
    assert.strictEqual(await same.queue.removeDeduplicationKey('same'), 1);
    assert.notStrictEqual((await same.queue.add('x', {}, { deduplication })).id, first.id);
    await same.close();
  },

  async 'relays: topics and patterns between nodes, and a message that is kept for who comes later'() {
    const one = new Relay({ connection, nodeId: 'one', blockTimeout: 200 });
    const two = new Relay({ connection, nodeId: 'two', blockTimeout: 200 });
    const seen = collector();
    for (const each of [one, two]) {
      each.on('error', failOnError);
      await each.waitUntilReady();
    }
    await one.subscribe('jobs.*.done', ({ topic, data }) => seen.push(['one', topic, data]));
    const all = await two.subscribe('jobs.>', ({ topic, data }) => seen.push(['two', topic, data]));
    assert.strictEqual((await one.publish('jobs.7.done', { n: 1 })).nodes, 2);
    assert.deepStrictEqual([...(await seen.has(2))].sort(), [
      ['one', 'jobs.7.done', { n: 1 }],
      ['two', 'jobs.7.done', { n: 1 }],
    ]);
    assert.strictEqual((await one.publish('other.7', {})).nodes, 0);
    await all.unsubscribe();
    await one.publish('jobs.7.state', { n: 2 }, { retain: 60_000 });
    await two.subscribe('jobs.7.state', ({ data, retained }) => seen.push(['two', retained, data]));
    assert.deepStrictEqual((await seen.has(3))[2], ['two', true, { n: 2 }]);
    assert.deepStrictEqual((await one.getNodes()).map(({ id }) => id).sort(), ['one', 'two']);
    assert.strictEqual(await one.deleteRetained('jobs.7.state'), true);
    await two.close();
    assert.strictEqual((await one.publish('jobs.7.state', {})).nodes, 0);
    await one.close();
  },

  async 'keeps a number of finished jobs, lists, cleans, removes, drains, obliterates'() {
    const q = await open('cleaning', { defaultJobOptions: { removeOnComplete: { count: 3 } } });
    await q.worker(async () => 1);
    // Not by `waitUntilFinished`, which looks for a job that may be gone.
    const completed = collector();
    q.events.on('completed', ({ jobId }) => completed.push(jobId));
    await q.queue.addBulk(Array.from({ length: 10 }, (_, n) => ({ name: `j${n}`, data: n })));
    await completed.has(10);
    assert.strictEqual((await q.queue.getJobs(['completed'])).length, 3);
    // What has ended in this very millisecond is not old enough.
    await until(async () => (await q.queue.clean(0, 1, 'completed')).length === 1);
    assert.strictEqual(await q.queue.getCompletedCount(), 2);
    await q.queue.pause();
    const held = await q.queue.add('held', {});
    await q.queue.addBulk([{ name: 'h', data: 1 }, { name: 'd', data: 2, opts: { delay: 1e6 } }]);
    assert.strictEqual(await q.queue.remove(held.id), 1);
    assert.strictEqual(await q.queue.count(), 2);
    await q.queue.drain(true);
    assert.strictEqual(await q.queue.count(), 0);
    assert.strictEqual((await q.queue.getWorkers()).length, 1);
    await q.queue.obliterate({ force: true });
    await q.close();
    const client = new Redis(redis);
    assert.deepStrictEqual(await client.keys('bull:cleaning:*'), []);
    client.disconnect();
  },
});
