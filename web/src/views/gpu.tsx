/* One card: who is on it, by lease and by process; its figures, health and history; what operators may order. */
import type { Signal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { path, post } from '../api/client.ts';
import type { Gpu, Process } from '../api/types.ts';
import { GpuCharts, SpanChoice } from '../charts/gpu_charts.tsx';
import { bytes, bytesOf, celsius, count, megahertz, percent, share, watts } from '../lib/units.ts';
import { epoch, gpus, machineIds, machines, roster } from '../live/store.ts';
import { to } from '../router.ts';
import { AuditList } from '../ui/audit_list.tsx';
import { ask } from '../ui/orders.tsx';
import { Ago, Bar, Empty, ErrorNote, Facts, GpuBadge, Loading, MarkNote, Section, Time, useTitle } from '../ui/parts.tsx';
import { TaskTable } from '../ui/task_table.tsx';
import { useRest } from '../ui/use_rest.ts';
import { useTasks } from '../ui/use_tasks.ts';
import { healthText, Xids } from './node_health.tsx';

function orderGpu(gpu: Gpu, action: 'cordon' | 'uncordon'): void {
  const place = `${gpu.node}::${gpu.index}`;
  ask({
    title: action === 'cordon' ? `Cordon GPU ${place}?` : `Uncordon GPU ${place}?`,
    text: action === 'cordon' ? 'It is granted to no new task. What runs on it runs on.' : 'It can be granted again. What spoke against it is forgiven, until it happens anew.',
    verb: action === 'cordon' ? 'Cordon' : 'Uncordon',
    isOperators: true,
    run: (body) => post(path('nodes', gpu.node, 'gpus', gpu.index, action), body),
    done: `GPU ${place} is ${action === 'cordon' ? 'cordoned' : 'in use again'}.`,
  });
}

function orderOrphan(gpu: Gpu, action: 'kill' | 'release'): void {
  const id = gpu.holder!.task_id;
  ask({
    title: action === 'kill' ? `Kill orphan ${id} on ${gpu.node}?` : `Give up the lease of orphan ${id} on ${gpu.node}?`,
    text: action === 'kill' ? 'The node is asked to end it.' : 'Its lease is given up without proof. Something may still use the card.',
    verb: action === 'kill' ? 'Kill' : 'Force release',
    isDangerous: true,
    isOperators: true,
    run: (body) => post(path('nodes', gpu.node, 'orphans', id, action), body),
    done: `Node ${gpu.node} was told.`,
  });
}

/** The machine whose start the holder is, if it is one. */
function machineOf(gpu: Gpu): [string, ComponentChildren][] {
  const id = machineIds.value.find((n) => machines.get(n)?.value.task_id === gpu.holder?.task_id && machines.get(n)?.value.holds_lease);
  return id === undefined ? [] : [['Machine', <a href={to.machine(id)}>{machines.get(id)!.value.name}</a>]];
}

function HolderFacts({ gpu }: { gpu: Gpu }) {
  const holder = gpu.holder;
  if (!holder) return <Empty>{gpu.free ? 'Nobody: it can be granted now.' : 'Nobody has a lease on it.'}</Empty>;
  return (
    <>
      <Facts
        rows={[
          [holder.kind === 'orphan' ? 'Orphan' : 'Task', holder.kind === 'task' ? <a href={to.task(holder.task_id)}>{`${holder.task_id} ${holder.name}`}</a> : String(holder.task_id)],
          ...machineOf(gpu),
          ['Owner', holder.owner ?? 'not told'],
          ['Since', <><Time ms={holder.since_ms} /> (<Ago ms={holder.since_ms} />)</>],
          ['Idle', gpu.idle_since_ms ? <>since <Ago ms={gpu.idle_since_ms} /></> : 'no'],
        ]}
      />
      {holder.kind === 'orphan' && (
        <div class="buttons">
          <button type="button" onClick={() => orderOrphan(gpu, 'kill')}>
            Kill
          </button>
          <button type="button" class="danger" onClick={() => orderOrphan(gpu, 'release')}>
            Force release
          </button>
        </div>
      )}
    </>
  );
}

function Processes({ gpu }: { gpu: Gpu }) {
  const rest = useRest<{ processes: Process[]; incomplete?: string }>(gpu.online ? path('nodes', gpu.node, 'gpus', gpu.index, 'processes') : undefined);
  const list = rest.data?.processes;
  return (
    <Section
      title="Processes"
      tools={
        <button type="button" class="small" disabled={!gpu.online || rest.isLoading} onClick={rest.again}>
          Look again
        </button>
      }
    >
      {!gpu.online && <Empty>The node is silent; it cannot be asked.</Empty>}
      {rest.error && <ErrorNote error={rest.error} again={rest.again} />}
      {gpu.online && !rest.data && !rest.error && <Loading />}
      {rest.data?.incomplete && <p class="note warn">{rest.data.incomplete}</p>}
      {list?.length === 0 && <Empty>No process is on this card.</Empty>}
      {list && list.length > 0 && (
        <table class="list">
          <thead>
            <tr>
              <th scope="col" class="num">PID</th>
              <th scope="col">Command</th>
              <th scope="col">User</th>
              <th scope="col">Task</th>
              <th scope="col">Container</th>
              <th scope="col" class="num">Memory</th>
              <th scope="col">Started</th>
            </tr>
          </thead>
          <tbody>
            {list.map((p) => (
              <tr key={p.pid}>
                <th scope="row" class="num">{p.pid}</th>
                <td class="wide" data-label="Command"><code>{p.command}</code></td>
                <td data-label="User">{p.user}</td>
                <td data-label="Task">{p.task_id ? <a href={to.task(p.task_id)}>{`${p.task_id} ${p.name ?? ''}`}</a> : 'none'}</td>
                <td data-label="Container">{p.container ? <code title={p.container}>{p.container.slice(0, 12)}</code> : 'none'}</td>
                <td class="num" data-label="Memory">{bytes(p.memory_bytes)}</td>
                <td data-label="Started"><Ago ms={p.started_ms} /></td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Section>
  );
}

const THROTTLE = [[1, 'power cap'], [2, 'hardware slowdown'], [4, 'software thermal'], [8, 'hardware thermal'], [16, 'power brake']] as const;

function throttleText(bits: number | undefined): string {
  if (bits === undefined) return 'not told';
  return THROTTLE.filter(([bit]) => bits & bit).map(([, text]) => text).join(', ') || 'no';
}

function Figures({ gpu }: { gpu: Gpu }) {
  return (
    <Section title="Figures">
      <Facts
        rows={[
          ['Utilisation', <><Bar kind="util" value={share(gpu.utilization_percent, 100)} /> {percent(gpu.utilization_percent)}</>],
          ['Memory', <><Bar kind="mem" value={share(gpu.memory_used_bytes, gpu.memory_total_bytes)} /> {bytesOf(gpu.memory_used_bytes, gpu.memory_total_bytes)}</>],
          ['Temperature', gpu.memory_temperature_celsius === undefined ? celsius(gpu.temperature_celsius) : `${celsius(gpu.temperature_celsius)}, memory ${celsius(gpu.memory_temperature_celsius)}`],
          ['Power', `${watts(gpu.power_mw)} of ${watts(gpu.power_limit_mw)}`],
          ['Clocks', `${megahertz(gpu.sm_clock_mhz)}, memory ${megahertz(gpu.memory_clock_mhz)}`],
          ['Slowed down', throttleText(gpu.throttle_reasons)],
          ['Fan', percent(gpu.fan_percent)],
          ['PCIe', gpu.pcie_generation === undefined ? 'not told' : `generation ${gpu.pcie_generation}, width ${count(gpu.pcie_width)}, ${count(gpu.pcie_replays)} replays`],
          ['NUMA node', count(gpu.numa_node)],
          ['PCI address', <code>{gpu.pci_address}</code>],
          ['UUID', <code>{gpu.uuid}</code>],
        ]}
      />
    </Section>
  );
}

function HealthFacts({ gpu }: { gpu: Gpu }) {
  return (
    <Section title="Health">
      <Facts
        rows={[
          ['Judgement', <span class={gpu.health === 'ok' ? '' : 'wrong'}>{healthText(gpu)}</span>],
          ['ECC, corrected', count(gpu.ecc_corrected)],
          ['ECC, uncorrected', `${count(gpu.ecc_uncorrected)}, ever ${count(gpu.ecc_uncorrected_ever)}`],
          ['Rows remapped', `${count(gpu.rows_remapped_corrected)} corrected, ${count(gpu.rows_remapped_uncorrected)} uncorrected`],
          ['Remap pending', gpu.row_remap_pending === undefined ? '–' : gpu.row_remap_pending ? 'yes' : 'no'],
          ['Remap failed', gpu.row_remap_failed === undefined ? '–' : gpu.row_remap_failed ? 'yes' : 'no'],
        ]}
      />
      <h3>XIDs</h3>
      <Xids gpu={gpu} />
    </Section>
  );
}

function Leases({ gpu }: { gpu: Gpu }) {
  const page = useTasks({ status: '', node: '', owner: '', q: '', gpu: gpu.uuid }, { limit: 20 });
  return (
    <Section title="Leases, newest first">
      {page.error && <ErrorNote error={page.error} again={page.again} />}
      {!page.tasks && !page.error && <Loading />}
      {page.tasks?.length === 0 && <Empty>No task has been granted this card yet.</Empty>}
      {page.tasks && page.tasks.length > 0 && <TaskTable tasks={page.tasks} showNode={false} />}
    </Section>
  );
}

function Shown({ card }: { card: Signal<Gpu> }) {
  const gpu = card.value;
  return (
    <>
      <div class="view-head">
        <h1>
          <a href={to.node(gpu.node)}>{gpu.node}</a>
          <span class="sub">::</span>
          {gpu.index}
        </h1>
        <GpuBadge state={gpu.state} />
        <span class="sub">{gpu.name}</span>
        {!gpu.online && <span class="tag bad">its node is silent: shown is what it said last</span>}
        <div class="buttons">
          {!gpu.cordon && (
            <button type="button" onClick={() => orderGpu(gpu, 'cordon')}>
              Cordon
            </button>
          )}
          {(gpu.cordon || gpu.health !== 'ok' || gpu.state === 'quarantined') && (
            <button type="button" class="primary" onClick={() => orderGpu(gpu, 'uncordon')}>
              Uncordon
            </button>
          )}
          {gpu.free && (
            <a class="button primary" href={`/submit?gpu=${encodeURIComponent(`${gpu.node}::${gpu.index}`)}`}>
              Use it
            </a>
          )}
        </div>
      </div>
      {gpu.cordon && <MarkNote mark={gpu.cordon} what="The card" />}
      <div class={`state-line s-${gpu.state}`}>
        <span class="swatch" aria-hidden="true" />
        <p>
          {gpu.state_reason && <b>{gpu.state_reason}. </b>}
          Since <Time ms={gpu.state_since_ms} />. Way out: {gpu.way_out}.
        </p>
      </div>
      <div class="columns">
        <Section title="Holder">
          <HolderFacts gpu={gpu} />
        </Section>
        <Figures gpu={gpu} />
        <HealthFacts gpu={gpu} />
      </div>
      <Processes gpu={gpu} />
      <Section title="History" tools={<SpanChoice />}>
        <GpuCharts card={card} />
      </Section>
      <Leases gpu={gpu} />
      <Section title="Orders of operators">
        <AuditList subject={`GPU ${gpu.index} of node ${gpu.node}`} limit={20} />
      </Section>
    </>
  );
}

export function GpuView({ node, index }: { node: string; index: number }) {
  useTitle(`${node}::${index}`);
  roster.value;
  const card = gpus.get(`${node}::${index}`);
  if (epoch.value === 0) return <Loading />;
  if (!card) {
    return (
      <>
        <h1>
          {node}::{index}
        </h1>
        <Empty>
          There is no such card. <a href={to.node(node)}>The node</a> · <a href="/">All cards</a>
        </Empty>
      </>
    );
  }
  return <Shown key={`${node}::${index}`} card={card} />;
}
