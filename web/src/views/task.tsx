/* One task: what it is, what happened to it and why, what it writes; and what one may ask of it. */
import { useEffect } from 'preact/hooks';
import { path, post } from '../api/client.ts';
import type { Task } from '../api/types.ts';
import { isOver } from '../lib/task_filter.ts';
import { quoteWords } from '../lib/shell_words.ts';
import { bytes } from '../lib/units.ts';
import { onTasks } from '../live/store.ts';
import { to } from '../router.ts';
import { AuditList } from '../ui/audit_list.tsx';
import { LogView } from '../ui/log_view.tsx';
import { ask, say } from '../ui/orders.tsx';
import { Ago, Empty, ErrorNote, Facts, Loading, Section, Span, StateBadge, Time, useTitle } from '../ui/parts.tsx';
import { exitText } from '../ui/task_table.tsx';
import { useRest } from '../ui/use_rest.ts';

function label(task: Task): string {
  return `task ${task.id}${task.name ? ` (${task.name})` : ''}`;
}

function askKill(task: Task): void {
  ask({
    title: `Kill ${label(task)}?`,
    text: `It is sent SIGTERM, and SIGKILL after the node's grace time.${task.gpus.length ? ' Its GPUs are free once the node has proved that nothing is left on them.' : ''}`,
    verb: 'Kill',
    isDangerous: true,
    run: () => post(path('tasks', task.id, 'kill'), {}),
    done: `Task ${task.id} was asked to end.`,
  });
}

function askPause(task: Task): void {
  ask({
    title: `Pause ${label(task)}?`,
    text: 'It is frozen where it is. It keeps its GPUs, cores and memory all the while.',
    verb: 'Pause',
    run: () => post(path('tasks', task.id, 'pause'), {}),
    done: `Task ${task.id} was asked to pause.`,
  });
}

function askRelease(task: Task): void {
  ask({
    title: `Give up the lease of ${label(task)} without proof?`,
    text: 'For operators, when a lease cannot end by itself. Something of the task may still be on its GPUs; what its node finds there later is shown as an orphan.',
    verb: 'Force release',
    isDangerous: true,
    isOperators: true,
    run: (body) => post(path('tasks', task.id, 'release'), body),
    done: `The lease of task ${task.id} is given up.`,
  });
}

function Orders({ task }: { task: Task }) {
  const runs = !isOver(task.state);
  const resume = (): void => {
    post(path('tasks', task.id, 'resume'), {})
      .then(() => say(`Task ${task.id} was asked to go on.`))
      .catch((why: Error) => say(why.message));
  };
  return (
    <div class="buttons">
      {!task.vm && (
        <a class="button" href={`/submit?like=${task.id}`}>
          Submit again
        </a>
      )}
      {task.state === 'running' && (
        <button type="button" onClick={() => askPause(task)}>
          Pause
        </button>
      )}
      {task.state === 'paused' && (
        <button type="button" class="primary" onClick={resume}>
          Resume
        </button>
      )}
      {runs && (
        <button type="button" class="danger" onClick={() => askKill(task)}>
          Kill
        </button>
      )}
      {task.holds_lease && (task.state === 'lost' || !runs) && (
        <button type="button" class="danger" onClick={() => askRelease(task)}>
          Force release
        </button>
      )}
    </div>
  );
}

function TaskFacts({ task }: { task: Task }) {
  return (
    <Section title="Facts">
      <Facts
        rows={[
          ['Command', <code>{quoteWords(task.command)}</code>],
          ['Owner', task.owner ?? 'not told'],
          ['Node', <a href={to.node(task.node)}>{task.node}</a>],
          ['Target', <code>{task.target}</code>],
          ['GPUs', task.gpus.length ? task.gpus.map((gpu, i) => <>{i > 0 && ', '}<a href={to.gpu(task.node, gpu.index)} title={gpu.uuid}>{gpu.index}</a></>) : 'none'],
          ['Lease', task.holds_lease ? 'held' : 'released'],
          ['Cores', task.cores || 'none reserved'],
          ['Memory', task.memory_bytes ? bytes(task.memory_bytes) : 'none reserved'],
          ['Image', task.image ? <code>{task.image}</code> : "the node's default"],
          ['Submitted', <><Time ms={task.created_ms} /> (<Ago ms={task.created_ms} />)</>],
          ['Started', <Time ms={task.started_ms} />],
          ['Finished', <Time ms={task.finished_ms} />],
          ['Ran', <Span from={task.started_ms} until={task.finished_ms} />],
          ['Batch', <code>{task.batch_id}</code>],
        ]}
      />
      {task.env.length > 0 && <List name="Variables" items={task.env} />}
      {task.mounts.length > 0 && <List name="Mounts" items={task.mounts} />}
    </Section>
  );
}

function List({ name, items }: { name: string; items: string[] }) {
  return (
    <>
      <h3>{name}</h3>
      <ul class="codes">
        {items.map((item, i) => (
          <li key={i}>
            <code>{item}</code>
          </li>
        ))}
      </ul>
    </>
  );
}

function Timeline({ id, revision }: { id: number; revision: number | string }) {
  const rest = useRest<{ events: { at_ms: number; text: string }[] }>(path('tasks', id, 'events'));
  useEffect(() => rest.again(), [revision]);
  return (
    <Section title="What happened">
      {rest.error && <ErrorNote error={rest.error} again={rest.again} />}
      {!rest.data && !rest.error && <Loading />}
      <ol class="events timeline">
        {rest.data?.events.map((event, i) => (
          <li key={i}>
            <Time ms={event.at_ms} />
            <span>{event.text}</span>
          </li>
        ))}
      </ol>
    </Section>
  );
}

export function TaskView({ id }: { id: number }) {
  useTitle(`Task ${id}`);
  const rest = useRest<Task>(path('tasks', id));
  useEffect(() => onTasks((changed) => changed.some((task) => task.id === id) && rest.again()), [id]);
  const task = rest.data;
  if (!task) {
    return (
      <>
        <h1>Task {id}</h1>
        {rest.error ? <ErrorNote error={rest.error} again={rest.again} /> : <Loading />}
        {rest.error && <Empty><a href="/tasks">All tasks</a></Empty>}
      </>
    );
  }
  const outcome = exitText(task);
  return (
    <>
      <div class="view-head">
        <h1>
          <span class="sub">Task {id}</span> {task.name}
        </h1>
        <StateBadge state={task.state} />
        {task.kill_requested && !isOver(task.state) && <span class="tag warn">asked to end</span>}
        {task.pause_requested && task.state === 'running' && <span class="tag warn">asked to pause</span>}
        <Orders task={task} />
      </div>
      {rest.error && <ErrorNote error={rest.error} again={rest.again} />}
      {outcome && <p class={`note ${task.state === 'completed' ? '' : 'warn'}`}>{outcome}</p>}
      <LogView key={id} id={id} revision={`${task.revision} ${task.state}`} isOver={isOver(task.state)} />
      <div class="columns">
        <TaskFacts task={task} />
        <div>
          <Timeline id={id} revision={`${task.revision} ${task.state} ${task.holds_lease}`} />
          <Section title="Orders of operators">
            <AuditList subject={`task ${id}`} limit={20} />
          </Section>
        </div>
      </div>
    </>
  );
}
