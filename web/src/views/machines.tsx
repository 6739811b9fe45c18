/* Virtual machines: all of them, and one. */
import { path, post } from '../api/client.ts';
import type { Guest, Vps } from '../api/types.ts';
import { bytes, bytesOf, celsius, percent } from '../lib/units.ts';
import { quoteWord } from '../lib/shell_words.ts';
import { epoch, machineIds, machines } from '../live/store.ts';
import { go, to } from '../router.ts';
import { ask, say } from '../ui/orders.tsx';
import { Ago, Empty, Facts, Loading, Section, StateBadge, Time, useTitle } from '../ui/parts.tsx';
import { LogView } from '../ui/log_view.tsx';
import { exitText } from '../ui/task_table.tsx';

type Verb = 'start' | 'stop' | 'pause' | 'resume' | 'delete';

const OFF: Vps['state'][] = ['stopped', 'failed', 'pending'];

function verbsFor(vps: Vps): Verb[] {
  if (OFF.includes(vps.state) && !vps.holds_lease) return ['start', 'delete'];
  if (vps.state === 'running') return ['pause', 'stop'];
  if (vps.state === 'paused') return ['resume', 'stop'];
  return vps.state === 'stopping' ? [] : ['stop'];
}

const TEXTS: Partial<Record<Verb, string>> = {
  stop: "Its power button is pressed; after the node's grace time the plug is pulled. Its disk stays, its GPUs go back.",
  pause: 'It is frozen where it is and keeps its GPUs.',
  delete: 'It and its disk are gone for good.',
};

function order(vps: Vps, verb: Verb): void {
  const run = (): Promise<unknown> => post(path('vps', vps.id, verb), {});
  const done = verb === 'delete' ? `Machine ${vps.name} is deleted.` : `Machine ${vps.name} was asked to ${verb}.`;
  const text = TEXTS[verb];
  if (!text) {
    run()
      .then(() => say(done))
      .catch((why: Error) => say(why.message));
    return;
  }
  ask({
    title: `${verb[0]!.toUpperCase()}${verb.slice(1)} machine ${vps.name}?`,
    text,
    verb: verb[0]!.toUpperCase() + verb.slice(1),
    isDangerous: verb === 'delete' || verb === 'stop',
    run: () => run().then(() => verb === 'delete' && go('/vps')),
    done,
  });
}

function Row({ id }: { id: number }) {
  const vps = machines.get(id)?.value;
  if (!vps) return null;
  return (
    <tr>
      <th scope="row">
        <a href={to.machine(id)}>{vps.name}</a>
      </th>
      <td data-label="State"><StateBadge state={vps.state} /></td>
      <td data-label="Node"><a href={to.node(vps.node)}>{vps.node}</a></td>
      <td data-label="GPUs">{vps.gpus.map((gpu) => gpu.index).join(', ') || 'none'}</td>
      <td class="num" data-label="Cores">{vps.cores}</td>
      <td class="num" data-label="Memory">{bytes(vps.memory_bytes)}</td>
      <td data-label="Image">{vps.image}</td>
      <td data-label="Owner">{vps.owner ?? ''}</td>
      <td data-label="Created"><Ago ms={vps.created_ms} /></td>
      <td class="reason" data-label="Outcome">{exitText(vps)}</td>
    </tr>
  );
}

export function MachinesView() {
  useTitle('Machines');
  const ids = machineIds.value;
  return (
    <>
      <div class="view-head">
        <h1>Virtual machines</h1>
      </div>
      {epoch.value === 0 ? (
        <Loading />
      ) : ids.length === 0 ? (
        <Empty>
          There are none. <code>kohakuriver vps create -t NODE::GPU --ssh</code> makes one.
        </Empty>
      ) : (
        <table class="list">
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">State</th>
              <th scope="col">Node</th>
              <th scope="col">GPUs</th>
              <th scope="col" class="num">Cores</th>
              <th scope="col" class="num">Memory</th>
              <th scope="col">Image</th>
              <th scope="col">Owner</th>
              <th scope="col">Created</th>
              <th scope="col">Outcome</th>
            </tr>
          </thead>
          <tbody>
            {ids.map((id) => (
              <Row key={id} id={id} />
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}

function guestState(guest: Guest): string {
  if (!guest.heard) return 'nothing heard of it yet';
  if (guest.silent) return 'silent for a minute or more';
  if (guest.late) return 'not ready within the time of its node';
  return guest.ready ? 'ready' : 'starting for the first time';
}

/** The guest's own word; nothing depends on it. */
function GuestFacts({ guest }: { guest: Guest }) {
  return (
    <Section title="What the guest says of itself">
      <Facts
        rows={[
          ['State', guestState(guest)],
          ['Address', guest.address ?? 'not told'],
          ['Driver', guest.driver === undefined ? 'not told' : [guest.driver, guest.driver_version, guest.driver_text].filter(Boolean).join(' · ')],
          ...guest.gpus.map((gpu): [string, string] => ['GPU', `${gpu.name}: ${percent(gpu.utilization_percent)}, ${bytesOf(gpu.memory_used_bytes, gpu.memory_total_bytes)}, ${celsius(gpu.temperature_celsius)}`]),
        ]}
      />
    </Section>
  );
}

export function MachineView({ id }: { id: number }) {
  machineIds.value;
  const vps = machines.get(id)?.value;
  useTitle(vps ? vps.name : `Machine ${id}`);
  if (epoch.value === 0) return <Loading />;
  if (!vps) {
    return (
      <>
        <h1>Machine {id}</h1>
        <Empty>
          There is no such machine. <a href="/vps">All machines</a>
        </Empty>
      </>
    );
  }
  const outcome = exitText(vps);
  return (
    <>
      <div class="view-head">
        <h1>
          <span class="sub">Machine</span> {vps.name}
        </h1>
        <StateBadge state={vps.state} />
        <div class="buttons">
          {verbsFor(vps).map((verb) => (
            <button key={verb} type="button" class={verb === 'delete' ? 'danger' : verb === 'start' || verb === 'resume' ? 'primary' : ''} onClick={() => order(vps, verb)}>
              {verb[0]!.toUpperCase() + verb.slice(1)}
            </button>
          ))}
        </div>
      </div>
      {vps.cards && <p class="note">{vps.cards}</p>}
      {outcome && <p class="note warn">{outcome}</p>}
      <div class="columns">
        <Section title="Facts">
          <Facts
            rows={[
              ['Number', vps.id],
              ['Owner', vps.owner ?? 'not told'],
              ['Node', <a href={to.node(vps.node)}>{vps.node}</a>],
              ['Target', <code>{vps.target}</code>],
              ['GPUs held', vps.gpus.length ? vps.gpus.map((gpu, i) => <>{i > 0 && ', '}<a href={to.gpu(vps.node, gpu.index)}>{gpu.index}</a></>) : 'none'],
              ['Cores', vps.cores],
              ['Memory', bytes(vps.memory_bytes)],
              ['Disk', bytes(vps.disk_bytes)],
              ['Image', vps.image],
              ['Network', vps.network],
              ['Created', <Time ms={vps.created_ms} />],
              ['Started', <Time ms={vps.started_ms} />],
              ['Newest start', vps.task_id ? <a href={to.task(vps.task_id)}>task {vps.task_id}</a> : 'never started'],
            ]}
          />
        </Section>
        <Section title="Logging in">
          <p>From any machine that reaches this host:</p>
          <pre class="cli"><code>{`kohakuriver ssh ${quoteWord(vps.name)}`}</code></pre>
          <p class="hint">
            As {vps.user}, with the key that it was created with. Its console: <code>{`kohakuriver vps console ${quoteWord(vps.name)}`}</code>
          </p>
        </Section>
        {vps.guest && <GuestFacts guest={vps.guest} />}
      </div>
      {vps.task_id > 0 && <LogView key={vps.task_id} id={vps.task_id} revision={vps.state} isOver={OFF.includes(vps.state)} />}
    </>
  );
}
