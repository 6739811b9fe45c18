/* One node: its cards and how they are joined, processors and memory, tasks, health, history; and what operators may order. */
import { useState } from 'preact/hooks';
import { path, post } from '../api/client.ts';
import type { NodeDetail, NodeSummary } from '../api/types.ts';
import { FIGURES, type Figure } from '../charts/figures.ts';
import { GpuCharts, SpanChoice } from '../charts/gpu_charts.tsx';
import { bytes, bytesOf, share } from '../lib/units.ts';
import { epoch, nodes, roster } from '../live/store.ts';
import { AuditList } from '../ui/audit_list.tsx';
import { GpuCell } from '../ui/gpu_cell.tsx';
import { ask } from '../ui/orders.tsx';
import { Ago, Bar, Empty, ErrorNote, Facts, Loading, MarkNote, Section, useTitle } from '../ui/parts.tsx';
import { TaskTable } from '../ui/task_table.tsx';
import { useRest } from '../ui/use_rest.ts';
import { useTasks } from '../ui/use_tasks.ts';
import { Doctor } from './node_doctor.tsx';
import { Health } from './node_health.tsx';
import { TopologyMatrix } from './node_topology.tsx';

function order(node: string, action: 'cordon' | 'drain' | 'uncordon'): void {
  const texts = {
    cordon: { text: 'It gets no new tasks. What runs there runs on.', done: `Node ${node} is cordoned.` },
    drain: { text: 'It gets no new tasks and is to become empty. What runs there runs on until it ends or is killed.', done: `Node ${node} is being drained.` },
    uncordon: { text: 'It can be given tasks again.', done: `Node ${node} can be given tasks again.` },
  };
  ask({
    title: `${action[0]!.toUpperCase()}${action.slice(1)} node ${node}?`,
    verb: action[0]!.toUpperCase() + action.slice(1),
    isOperators: true,
    run: (body) => post(path('nodes', node, action), body),
    ...texts[action],
  });
}

function Orders({ node }: { node: NodeSummary }) {
  return (
    <div class="buttons">
      {node.cordon?.kind !== 'cordon' && (
        <button type="button" onClick={() => order(node.name, 'cordon')}>
          Cordon
        </button>
      )}
      {node.cordon?.kind !== 'drain' && (
        <button type="button" onClick={() => order(node.name, 'drain')}>
          Drain
        </button>
      )}
      {node.cordon && (
        <button type="button" class="primary" onClick={() => order(node.name, 'uncordon')}>
          Uncordon
        </button>
      )}
    </div>
  );
}

function Machine({ node, detail }: { node: NodeSummary; detail: NodeDetail | undefined }) {
  return (
    <Section title="Processors and memory">
      <Facts
        rows={[
          ['Cores', `${node.cores_reserved} of ${node.cores} reserved`],
          ['Memory used', <><Bar kind="mem" value={share(node.memory_used_bytes, node.memory_total_bytes)} /> {bytesOf(node.memory_used_bytes, node.memory_total_bytes)}</>],
          ['Memory reserved', bytesOf(node.memory_reserved_bytes, node.memory_total_bytes)],
          ['Containers', node.engine_ok ? (node.engine_text ?? 'ready') : <span class="wrong">{node.engine_text ?? 'not ready'}</span>],
          ['Machines', node.vm_ok ? (node.vm_text ?? 'ready') : (node.vm_text ?? 'not told')],
          ['GPU driver', node.gpus_known ? (node.gpu_text ?? 'not told') : <span class="wrong">{node.gpu_text ?? 'GPUs are not known'}</span>],
          ['Disk', node.disk_ok ? 'ready' : <span class="wrong">{node.disk_text ?? 'not ready'}</span>],
          ['Runner', node.version ?? 'not told'],
        ]}
      />
      {detail && detail.numa.length > 0 && (
        <table class="list small">
          <thead>
            <tr>
              <th scope="col">NUMA node</th>
              <th scope="col">CPUs</th>
              <th scope="col" class="num">Memory</th>
            </tr>
          </thead>
          <tbody>
            {detail.numa.map((numa) => (
              <tr key={numa.id}>
                <th scope="row">{numa.id}</th>
                <td data-label="CPUs">{numa.cpus}</td>
                <td class="num" data-label="Memory">
                  {bytes(numa.memory_bytes)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Section>
  );
}

function Charts({ name }: { name: string }) {
  const [figure, setFigure] = useState<Figure>('utilization_percent');
  const cards = roster.value.find((row) => row.node === name)?.cards ?? [];
  return (
    <Section
      title="History"
      tools={
        <div class="tools">
          <select aria-label="Figure" value={figure} onChange={(e) => setFigure(e.currentTarget.value as Figure)}>
            {Object.entries(FIGURES).map(([key, f]) => (
              <option key={key} value={key}>
                {f.name}
              </option>
            ))}
          </select>
          <SpanChoice />
        </div>
      }
    >
      <div class="small-multiples">
        {cards.map((card) => (
          <GpuCharts key={`${card.peek().index} ${figure}`} card={card} only={figure} label={`GPU ${card.peek().index}`} />
        ))}
      </div>
      {cards.length === 0 && <Empty>This node has no GPUs.</Empty>}
    </Section>
  );
}

function Tasks({ name }: { name: string }) {
  const page = useTasks({ status: 'live', node: name, owner: '', q: '' }, { limit: 100 });
  return (
    <Section title="Tasks that hold something here" tools={<a href={`/tasks?node=${encodeURIComponent(name)}`}>All tasks of this node</a>}>
      {page.error && <ErrorNote error={page.error} again={page.again} />}
      {!page.tasks && !page.error && <Loading />}
      {page.tasks?.length === 0 && <Empty>None.</Empty>}
      {page.tasks && page.tasks.length > 0 && <TaskTable tasks={page.tasks} showNode={false} />}
    </Section>
  );
}

export function NodeView({ name }: { name: string }) {
  useTitle(name);
  const row = roster.value.find((r) => r.node === name);
  const node = nodes.get(name)?.value;
  const rest = useRest<{ node: NodeDetail }>(node && path('nodes', name));
  if (epoch.value === 0) return <Loading />;
  if (!node || !row) {
    return (
      <>
        <h1>{name}</h1>
        <Empty>
          There is no node of this name. <a href="/nodes">All nodes</a>
        </Empty>
      </>
    );
  }
  return (
    <>
      <div class="view-head">
        <h1>{name}</h1>
        <span class={`badge ${node.online ? 't-running' : 't-failed'}`}>{node.online ? 'online' : 'offline'}</span>
        {!node.online && (
          <span class="sub">
            {node.last_seen_ms ? <>seen <Ago ms={node.last_seen_ms} /></> : 'not heard since the host started'}; what is shown is what it said last
          </span>
        )}
        {node.gpus_simulated && <span class="tag warn">GPUs are simulated</span>}
        <Orders node={node} />
      </div>
      {node.vfio?.map((change) => (
        <p key={change.owner} class="note warn">
          Cards are on their way for {change.owner}: {change.state}, {change.step}
          {change.reason && `: ${change.reason}`}
        </p>
      ))}
      {node.cordon && <MarkNote mark={node.cordon} what="The node" />}
      <Section title={node.gpus_known ? `${node.gpus_free} of ${node.gpus_total} GPUs free` : 'GPUs: not known'}>
        {row.cards.length === 0 && <Empty>{node.gpus_known ? 'This node has no GPUs.' : (node.gpu_text ?? 'This node has not told its GPUs.')}</Empty>}
        <div class="cells">
          {row.cards.map((card) => (
            <GpuCell key={card.peek().index} card={card} />
          ))}
        </div>
      </Section>
      <div class="columns">
        <Machine node={node} detail={rest.data?.node} />
        <TopologyMatrix name={name} isOnline={node.online} />
        <div>
          <Health cards={row.cards} />
          <Doctor key={name} name={name} />
        </div>
      </div>
      <Tasks name={name} />
      <Charts name={name} />
      <Section title="Orders of operators">
        <AuditList subject={`node ${name}`} limit={20} />
      </Section>
    </>
  );
}
