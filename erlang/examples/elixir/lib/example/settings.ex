defmodule Example.Settings do
  @moduledoc """
  Settings that every node publishes and every node sees, with the nodes in Rust among them.

  A setting belongs to the node that put it: two nodes may have two values of one, and a node that goes
  takes its own along.
  """

  use Application

  @scope :settings

  @impl true
  def start(_type, _args) do
    Supervisor.start_link([{:dp_kv, @scope}], strategy: :one_for_one)
  end

  @doc "Puts a value of this node; when it returns, readers here see it and all peers are being told."
  def put(key, value), do: :dp_kv.put(@scope, key, value)

  @doc "Takes this node's value back."
  def delete(key), do: :dp_kv.delete(@scope, key)

  @doc "The value of each node that has one. Reads a table, and asks no process."
  def get(key), do: :dp_kv.get(@scope, key)

  @doc """
  Subscribes the calling process: what there is now as `%{key => %{node => value}}`, and from then on
  `{ref, :put, node, key, value}` and `{ref, :delete, node, key}` as messages.
  """
  def subscribe, do: :dp_kv.subscribe(@scope)
end
