# A stand-in for the packages phoenix_pubsub and phoenix, as far as other nodes can tell: the scope, the
# groups and their workers, the messages, and what makes a worker raise. Written after the facts that the
# module `phoenix_pubsub` of the Rust side lists, without a Registry: subscribers are in a bag.

defmodule Phoenix.Socket.Broadcast do
  defstruct topic: nil, event: nil, payload: nil
end

defmodule Phoenix.PubSub do
  @doc "Starts a pubsub that outlives its caller. Options: `pool_size`, `broadcast_pool_size`."
  def start(name, opts \\ []) do
    caller = self()

    {owner, monitor} =
      spawn_monitor(fn ->
        case :pg.start(__MODULE__) do
          {:ok, _} -> :ok
          {:error, {:already_started, _}} -> :ok
        end

        :ets.new(name, [:named_table, :public, :bag, read_concurrency: true])
        adapter = Module.concat(name, "Adapter")
        size = Keyword.get(opts, :pool_size, 1)
        groups = groups(adapter, size)
        used = groups(adapter, Keyword.get(opts, :broadcast_pool_size, size))
        :persistent_term.put({__MODULE__, name}, List.to_tuple(used))
        for group <- groups, do: {:ok, _} = Phoenix.PubSub.Worker.start(name, group)
        send(caller, {self(), :ready})
        Process.sleep(:infinity)
      end)

    receive do
      {^owner, :ready} -> Process.demonitor(monitor, [:flush])
      {:DOWN, ^monitor, _, _, reason} -> exit(reason)
    end

    :ok
  end

  # The first has the adapter's name alone, so that nodes of 2.0 know it.
  defp groups(adapter, size) do
    [adapter | for(number <- 2..size//1, do: :"#{adapter}_#{number}")]
  end

  def subscribe(name, topic) when is_binary(topic) do
    true = :ets.insert(name, {topic, self()})
    :ok
  end

  @doc "As a channel's process: the client's socket gets the JSON, not the process the message."
  def subscribe_client(name, topic, socket) do
    true = :ets.insert(name, {topic, {:client, socket}})
    :ok
  end

  def broadcast(name, topic, message, dispatcher \\ __MODULE__)
      when is_binary(topic) and is_atom(dispatcher) do
    broadcast_from(name, :none, topic, message, dispatcher)
  end

  def broadcast_from(name, from, topic, message, dispatcher \\ __MODULE__) do
    forward = {:forward_to_local, topic, message, dispatcher}

    for pid <- :pg.get_members(__MODULE__, group(name)), node(pid) != node() do
      send(pid, forward)
    end

    dispatch_local(name, from, topic, message, dispatcher)
  end

  def direct_broadcast(node, name, topic, message, dispatcher \\ __MODULE__)
      when is_binary(topic) and is_atom(dispatcher) do
    send({group(name), node}, {:forward_to_local, topic, message, dispatcher})
    :ok
  end

  # What a worker calls; the guards are where another shape raises.
  def local_broadcast(name, topic, message, dispatcher)
      when is_atom(name) and is_binary(topic) and is_atom(dispatcher) do
    dispatch_local(name, :none, topic, message, dispatcher)
  end

  defp dispatch_local(name, from, topic, message, dispatcher) do
    case :ets.lookup(name, topic) do
      [] -> :ok
      entries -> dispatcher.dispatch(for({_, entry} <- entries, do: entry), from, message)
    end
  end

  # Each process uses one of the groups.
  defp group(name) do
    groups = :persistent_term.get({__MODULE__, name})
    elem(groups, :erlang.phash2(self(), tuple_size(groups)))
  end

  def dispatch(subscribers, from, message) do
    for pid <- subscribers, is_pid(pid), pid != from, do: send(pid, message)
    :ok
  end
end

defmodule Phoenix.PubSub.Worker do
  use GenServer

  def start(name, group), do: GenServer.start(__MODULE__, {name, group}, name: group)

  @impl true
  def init({name, group}) do
    :ok = :pg.join(Phoenix.PubSub, group, self())
    {:ok, name}
  end

  @impl true
  def handle_info({:forward_to_local, topic, message, dispatcher}, name) do
    Phoenix.PubSub.local_broadcast(name, topic, message, dispatcher)
    {:noreply, name}
  end

  def handle_info(_, name), do: {:noreply, name}
end

defmodule Phoenix.Channel.Server do
  alias Phoenix.Socket.Broadcast

  def broadcast(name, topic, event, payload) when is_binary(topic) and is_binary(event) do
    message = %Broadcast{topic: topic, event: event, payload: payload}
    Phoenix.PubSub.broadcast(name, topic, message, __MODULE__)
  end

  def dispatch(subscribers, from, %Broadcast{} = message) do
    for subscriber <- subscribers, subscriber != from do
      case subscriber do
        {:client, socket} -> send(socket, {:text, json(message)})
        pid -> send(pid, message)
      end
    end

    :ok
  end

  def dispatch(subscribers, from, message), do: Phoenix.PubSub.dispatch(subscribers, from, message)

  # What the serializers write; anything that JSON hasn't raises, in the worker.
  defp json(%Broadcast{topic: topic, event: event, payload: %{} = payload}) do
    IO.iodata_to_binary(encode([nil, nil, topic, event, payload]))
  end

  defp encode(nil), do: "null"
  defp encode(atom) when is_boolean(atom), do: Atom.to_string(atom)
  defp encode(atom) when is_atom(atom), do: encode(Atom.to_string(atom))
  defp encode(number) when is_number(number), do: to_string(number)
  defp encode(list) when is_list(list), do: [?[, Enum.map_intersperse(list, ?,, &encode/1), ?]]
  defp encode(%{__struct__: struct}), do: raise("no encoder for #{inspect(struct)}")

  defp encode(%{} = map) do
    pairs = Enum.sort(for {key, value} <- map, do: {to_string(key), value})
    pairs = for {key, value} <- pairs, do: [encode(key), ?:, encode(value)]
    [?{, Enum.intersperse(pairs, ?,), ?}]
  end

  defp encode(text) when is_binary(text) do
    true = String.valid?(text)
    [?", String.replace(text, ["\\", "\""], &("\\" <> &1)), ?"]
  end
end

# What the tests have a node do. No sender and no collector ends by itself.
defmodule PubSubProbe do
  @doc "A process that notes what is broadcast on a topic: the terms, or per sender how far it came."
  def collect(name, topic) do
    caller = self()

    pid =
      spawn(fn ->
        :ok = Phoenix.PubSub.subscribe(name, topic)
        send(caller, {self(), :ready})
        collecting(%{}, [])
      end)

    receive do
      {^pid, :ready} -> pid
    end
  end

  # Messages of a count are {:count, sender, number}, from 1 on without a gap.
  defp collecting(counts, others) do
    receive do
      {:count, sender, number} ->
        case Map.get(counts, sender, 0) + 1 do
          ^number -> collecting(Map.put(counts, sender, number), others)
          due -> collecting(counts, [{sender, :got, number, :due, due} | others])
        end

      {:tell, asker} ->
        send(asker, {self(), {Enum.sort(counts), Enum.reverse(others)}})
        collecting(counts, others)

      other ->
        collecting(counts, [other | others])
    end
  end

  @doc "`{[{sender, count}], others}` of a collector."
  def told(pid) do
    send(pid, {:tell, self()})

    receive do
      {^pid, told} -> told
    end
  end

  @doc "Processes that broadcast `count` messages each; their names are `{node, n}`."
  def count(name, topic, senders, count) do
    for n <- 1..senders do
      spawn(fn ->
        for number <- 1..count do
          Phoenix.PubSub.broadcast(name, topic, {:count, {node(), n}, number})
        end

        Process.sleep(:infinity)
      end)
    end

    :ok
  end
end
