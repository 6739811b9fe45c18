/* Tasks as rows. Each row follows the stream: a change of its task draws that row anew. */
import type { TaskBrief } from '../api/types.ts';
import { to } from '../router.ts';
import { Ago, Span, StateBadge } from './parts.tsx';

export function exitText(task: { exit_code?: number; reason?: string; holding?: string }): string {
  const parts: string[] = [];
  if (task.exit_code !== undefined) parts.push(`exit code ${task.exit_code}`);
  if (task.reason) parts.push(task.reason);
  if (task.holding) parts.push(`still held: ${task.holding}`);
  return parts.join(' · ');
}

function Row({ task, showNode }: { task: TaskBrief; showNode: boolean }) {
  return (
    <tr>
      <th scope="row" class="num">
        <a href={to.task(task.id)}>{task.id}</a>
      </th>
      <td data-label="State">
        <StateBadge state={task.state} />
      </td>
      <td class="wide" data-label="Task">
        <a href={to.task(task.id)} class="plain" tabIndex={-1}>
          {task.name && <b>{task.name} </b>}
          <code>{task.command_text}</code>
        </a>
      </td>
      {showNode && (
        <td data-label="Node">
          <a href={to.node(task.node)}>{task.node}</a>
        </td>
      )}
      <td data-label="GPUs">{task.gpus.length ? task.gpus.map((gpu) => gpu.index).join(', ') : 'none'}</td>
      <td data-label="Owner">{task.owner ?? ''}</td>
      <td data-label="Submitted">
        <Ago ms={task.created_ms} />
      </td>
      <td data-label="Ran">
        <Span from={task.started_ms} until={task.finished_ms} />
      </td>
      <td class="reason" data-label="Outcome">{exitText(task)}</td>
    </tr>
  );
}

export function TaskTable({ tasks, showNode = true }: { tasks: TaskBrief[]; showNode?: boolean }) {
  return (
    <table class="list tasks">
      <thead>
        <tr>
          <th scope="col" class="num">ID</th>
          <th scope="col">State</th>
          <th scope="col">Task</th>
          {showNode && <th scope="col">Node</th>}
          <th scope="col">GPUs</th>
          <th scope="col">Owner</th>
          <th scope="col">Submitted</th>
          <th scope="col">Ran</th>
          <th scope="col">Outcome</th>
        </tr>
      </thead>
      <tbody>
        {tasks.map((task) => (
          <Row key={task.id} task={task} showNode={showNode} />
        ))}
      </tbody>
    </table>
  );
}
