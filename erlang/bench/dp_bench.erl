%% What the benchmark does on Erlang nodes, in two halves.
%%
%% The peer is a process under a scope's name that says what OTP 29's `pg` says, in the same shapes and order, but
%% of members that needn't exist and as fast as it can. Whoever is measured, a node of OTP 29 or one in Rust, gets
%% the same messages from it.
%%
%% The target's functions are what the one that is measured is asked to do, by erpc. Those here are for a target
%% on OTP; the Rust target has functions of the same names (integration/bench/target.rs).
%%
%% Times are in nanoseconds. Moments that are told to another process are those of the machine's clock, which all
%% of its processes share; durations are measured by one that nobody sets.
-module(dp_bench).

-export([start_peer/3, stop_peer/1, meet/2, lose/2, reconnect/2, send/2, heard/2, delays/1, met_at/1]).
-export([flood/3]).
-export([call/3, update_bytes/0, clock/0]).
-export([view/1, joins/3, stamped_joins/2, reads/4, codec/2]).

%% Operations in one batch, where single ones are too short to be timed.
-define(BATCH, 200).
%% Prime to all numbers of members, so that its multiples lead once to each of them.
-define(STRIDE, 7919).

%%% The peer

-record(peer, {data :: #{binary() => [pid()]},
               %% The scope's processes on other nodes.
               known = #{} :: #{pid() => greeted | synced},
               met_at :: undefined | integer(),
               %% Joins told by others, and how long each with a time for a name was under way.
               heard = 0 :: non_neg_integer(),
               delays = [] :: [integer()],
               waiting = [] :: [{{pid(), reference()}, {synced, node()} | {heard, pos_integer()}}]}).

%% Starts the peer, of whose members there are so many in each of so many groups; the one before ends.
start_peer(Scope, Groups, Members) ->
    _ = [stop_peer(Scope) || whereis(Scope) =/= undefined],
    Caller = self(),
    {Pid, Monitor} = spawn_monitor(
        fun() ->
            true = register(Scope, self()),
            Data = data(Groups, Members),
            Caller ! {started, self()},
            peer(#peer{data = Data})
        end),
    receive
        {started, Pid} -> erlang:demonitor(Monitor, [flush]), ok;
        {'DOWN', Monitor, process, Pid, Reason} -> exit(Reason)
    end.

stop_peer(Scope) ->
    Monitor = erlang:monitor(process, Scope),
    exit(whereis(Scope), kill),
    receive {'DOWN', Monitor, process, _, _} -> ok end.

%% Tells all the peer knows of changes to a few groups, as fast as it can for so many milliseconds: how many they
%% were, and the longest that a send had to wait.
flood(Scope, Groups, Time) ->
    ask(Scope, {flood, Groups, Time}).

%% Connects to a node and returns when its scope and the peer know each other.
meet(Scope, Node) ->
    true = net_kernel:connect_node(Node),
    ask(Scope, {await, {synced, Node}}).

%% Disconnects from a node; afterwards the peer doesn't know its scope any more.
lose(Scope, Node) ->
    ask(Scope, {lose, Node}).

%% Connects again; the time until the node's scope has all of the peer's data. `connected` if it is already.
reconnect(Scope, Node) ->
    ask(Scope, {reconnect, Node}).

%% Tells all the peer knows of changes, and returns when they have dealt with them:
%%
%% - `{joins, Groups, Members}`: one update for each of them, group after group;
%% - `{leaves, Groups, Members}`: each of them leaves, by an update of its own, in no order;
%% - `{swaps, Groups, Members, Count}`: so many updates, each of which puts another in the place of one member;
%% - `{snapshot, Groups, Members}`: all of it at once, as local data;
%% - `{herd, Count}`: so many times the local data of one group.
send(Scope, What) ->
    ask(Scope, {send, What}).

%% Returns when the peer was told of so many joins.
heard(Scope, Count) ->
    ask(Scope, {await, {heard, Count}}).

delays(Scope) ->
    ask(Scope, delays).

%% When the first scope said hello; `undefined` before that.
met_at(Scope) ->
    ask(Scope, met_at).

ask(Scope, Request) ->
    Monitor = erlang:monitor(process, Scope),
    Scope ! {ask, {self(), Monitor}, Request},
    receive
        {Monitor, Reply} -> erlang:demonitor(Monitor, [flush]), Reply;
        {'DOWN', Monitor, process, _, Reason} -> exit({Scope, Reason})
    end.

peer(Peer) ->
    receive
        {update, _Pid, Changes} ->
            peer(answer(lists:foldl(fun hear/2, Peer, Changes)));
        {discover, Pid} ->
            peer(greeted(Pid, Peer));
        {discover, Pid, _Version} ->
            peer(greeted(Pid, Peer));
        {'$gen_cast', {local_data, Pid, _Label, _Data}} ->
            peer(answer(Peer#peer{known = (Peer#peer.known)#{Pid => synced}}));
        {'DOWN', _, process, Pid, _} ->
            peer(Peer#peer{known = maps:remove(Pid, Peer#peer.known)});
        {ask, From, Request} ->
            peer(asked(Request, From, Peer));
        Other ->
            exit({unexpected, Other})
    end.

%% As data_publisher:handle_info({discover, ...}).
greeted(Pid, #peer{known = Known} = Peer) ->
    gen_server:cast(Pid, {local_data, self(), 1, Peer#peer.data}),
    case Known of
        #{Pid := _} ->
            Peer;
        _ ->
            MetAt = case Peer#peer.met_at of undefined -> clock(); Before -> Before end,
            erlang:monitor(process, Pid),
            erlang:send(Pid, {discover, self(), 1}, [noconnect]),
            Peer#peer{known = Known#{Pid => greeted}, met_at = MetAt}
    end.

hear({Stamp, [_], []}, Peer) when is_integer(Stamp) ->
    Delay = clock() - Stamp,
    Peer#peer{heard = Peer#peer.heard + 1, delays = [Delay | Peer#peer.delays]};
hear({_Group, Add, _Remove}, Peer) ->
    Peer#peer{heard = Peer#peer.heard + length(Add)}.

answer(#peer{waiting = []} = Peer) ->
    Peer;
answer(#peer{waiting = Waiting} = Peer) ->
    {Done, Left} = lists:partition(fun({_, What}) -> is_true(What, Peer) end, Waiting),
    [reply(From, ok) || {From, _} <- Done],
    Peer#peer{waiting = Left}.

is_true({heard, Count}, Peer) ->
    Peer#peer.heard >= Count;
is_true({synced, Node}, Peer) ->
    lists:member(Node, [node(Pid) || Pid := synced <- Peer#peer.known]).

asked({await, What}, From, Peer) ->
    answer(Peer#peer{waiting = [{From, What} | Peer#peer.waiting]});
asked({send, What}, From, Peer) ->
    send_each(What, maps:keys(Peer#peer.known)),
    [barrier(Pid) || Pid := _ <- Peer#peer.known],
    reply(From, ok),
    Peer;
asked({flood, Groups, Time}, From, Peer) ->
    To = maps:keys(Peer#peer.known),
    Sent = flood(To, Groups, element(1, pids(1)), timer() + Time * 1000_000, 0, 0),
    [barrier(Pid) || Pid <- To],
    reply(From, Sent),
    Peer;
asked({lose, Node}, From, #peer{known = Known} = Peer) ->
    true = erlang:disconnect_node(Node),
    Lost = [Pid || Pid := _ <- Known, node(Pid) =:= Node],
    [receive {'DOWN', _, process, Pid, _} -> ok end || Pid <- Lost],
    reply(From, ok),
    Peer#peer{known = maps:without(Lost, Known)};
asked({reconnect, Node}, From, Peer) ->
    case lists:member(Node, nodes()) of
        true ->
            reply(From, connected),
            Peer;
        false ->
            Start = timer(),
            true = net_kernel:connect_node(Node),
            Pid = receive
                {discover, P} when node(P) =:= Node -> P;
                {discover, P, _} when node(P) =:= Node -> P
            end,
            Met = greeted(Pid, Peer),
            barrier(Pid),
            reply(From, timer() - Start),
            Met
    end;
asked(delays, From, Peer) ->
    reply(From, Peer#peer.delays),
    Peer;
asked(met_at, From, Peer) ->
    reply(From, Peer#peer.met_at),
    Peer.

reply({Pid, Monitor}, Reply) ->
    Pid ! {Monitor, Reply}.

%% A call that changes nothing: its answer comes after all that was sent before.
barrier(Pid) ->
    ok = gen_server:call(Pid, {unsubscribe, make_ref()}, infinity).

send_each({joins, Groups, Members}, To) ->
    Pids = pids(Members),
    each(Groups * Members, fun(N) ->
        update(To, group(N rem Groups), [element(N div Groups + 1, Pids)], [])
    end);
send_each({leaves, Groups, Members}, To) ->
    Pids = pids(Members),
    Places = Groups * Members,
    each(Places, fun(N) ->
        Place = N * ?STRIDE rem Places,
        update(To, group(Place div Members), [], [element(Place rem Members + 1, Pids)])
    end);
send_each({swaps, Groups, Members, Count}, To) ->
    Pids = pids(2 * Members),
    Places = Groups * Members,
    each(Count, fun(N) ->
        Place = N * ?STRIDE rem Places,
        First = element(Place rem Members + 1, Pids),
        Second = element(Place rem Members + 1 + Members, Pids),
        %% All first ones go, then all second ones, and so on.
        case N div Places rem 2 of
            0 -> update(To, group(Place div Members), [Second], [First]);
            1 -> update(To, group(Place div Members), [First], [Second])
        end
    end);
send_each({snapshot, Groups, Members}, To) ->
    Data = data(Groups, Members),
    [gen_server:cast(Pid, {local_data, self(), 1, Data}) || Pid <- To];
send_each({herd, Count}, To) ->
    each(Count, fun(_) -> [gen_server:cast(Pid, {local_data, self(), 1, data(1, 1)}) || Pid <- To] end).

%% In turns a member joins a group and leaves it.
flood(To, Groups, Member, End, Count, Longest) ->
    {Add, Remove} = case Count div Groups rem 2 of 0 -> {[Member], []}; 1 -> {[], [Member]} end,
    Start = timer(),
    update(To, group(Count rem Groups), Add, Remove),
    Now = timer(),
    case {max(Longest, Now - Start), Count + 1} of
        {Most, All} when Now >= End, All rem (2 * Groups) =:= 0 -> {All, Most};
        {Most, All} -> flood(To, Groups, Member, End, All, Most)
    end.

%% As data_publisher:do_update.
update(To, Group, Add, Remove) ->
    [erlang:send(Pid, {update, self(), [{Group, Add, Remove}]}, [noconnect]) || Pid <- To].

each(Count, Do) ->
    each(0, Count, Do).

each(Count, Count, _Do) ->
    ok;
each(N, Count, Do) ->
    Do(N),
    each(N + 1, Count, Do).

data(Groups, Members) ->
    Pids = tuple_to_list(pids(Members)),
    #{group(N) => Pids || N <- lists:seq(0, Groups - 1)}.

%% 13 bytes.
group(N) ->
    <<$1, Digits/binary>> = integer_to_binary(10_000_000 + N),
    <<"group-", Digits/binary>>.

%% Pids of this node. No process has one of them: members of another node aren't monitored.
pids(Count) ->
    Serial = ".777>",
    list_to_tuple([list_to_pid("<0." ++ integer_to_list(1000 + N) ++ Serial) || N <- lists:seq(1, Count)]).

%% Calls a function of this module on the target.
call(Node, Function, Arguments) ->
    erpc:call(Node, ?MODULE, Function, Arguments, infinity).

%% An update of one member that joins one group, as it is sent without an atom cache.
update_bytes() ->
    Bytes = term_to_binary({update, self(), [{group(1), [self()], []}]}),
    96 = byte_size(Bytes),
    Bytes.

clock() ->
    os:system_time(nanosecond).

timer() ->
    os:perf_counter(nanosecond).

%%% The target's functions

%% How many groups have members, and how many members all of them have.
view(Scope) ->
    Sizes = [length(pg:get_members(Scope, Group)) || Group <- pg:which_groups(Scope)],
    {length([Size || Size <- Sizes, Size > 0]), lists:sum(Sizes)}.

%% A process joins groups, those of these numbers, one after another.
joins(Scope, From, To) ->
    Member = member(),
    lists:foreach(fun(N) -> ok = pg:join(Scope, group(N), Member) end, lists:seq(From, To)).

%% A process joins groups, each of which is named by the time at which it does; a millisecond or two apart.
stamped_joins(Scope, Count) ->
    Member = member(),
    lists:foreach(
        fun(_) ->
            timer:sleep(1),
            ok = pg:join(Scope, clock(), Member)
        end,
        lists:seq(1, Count)).

%% Reads the members of the group, while another process makes changes to `others`, to the `same` one, or to
%% `none`: how long each batch of reads took, and how many changes were made meanwhile.
reads(Scope, Group, Batches, Writes) ->
    Writer = start_writer(Scope, Group, Writes),
    Times = batches(Batches, fun() -> [_ | _] = pg:get_members(Scope, Group) end),
    {Times, stop_writer(Writer)}.

%% Takes bytes apart and makes them from the term again: how long each batch took.
codec(Bytes, Batches) ->
    Term = binary_to_term(Bytes),
    Bytes = term_to_binary(Term),
    {batches(Batches, fun() -> binary_to_term(Bytes) end),
     batches(Batches, fun() -> term_to_binary(Term) end)}.

batches(Count, Do) ->
    [batch(Do) || _ <- lists:seq(1, Count)].

batch(Do) ->
    Start = timer(),
    again(?BATCH, Do),
    timer() - Start.

again(0, _Do) ->
    ok;
again(N, Do) ->
    Do(),
    again(N - 1, Do).

start_writer(_Scope, _Group, none) ->
    none;
start_writer(Scope, _Group, others) ->
    start_writer(Scope, list_to_tuple([group(N) || N <- lists:seq(1_000_000, 1_000_099)]));
start_writer(Scope, Group, same) ->
    start_writer(Scope, {Group}).

start_writer(Scope, Groups) ->
    spawn(fun() -> write(Scope, Groups, 0) end).

write(Scope, Groups, Count) ->
    receive
        {stop, From} -> From ! {self(), Count}
    after 0 ->
        Group = element(Count div 2 rem tuple_size(Groups) + 1, Groups),
        ok = pg:join(Scope, Group, self()),
        ok = pg:leave(Scope, Group, self()),
        write(Scope, Groups, Count + 2)
    end.

stop_writer(none) ->
    0;
stop_writer(Writer) ->
    Writer ! {stop, self()},
    receive {Writer, Count} -> Count end.

%% A process of this node that does nothing.
member() ->
    case whereis(?MODULE) of
        undefined ->
            Pid = spawn(fun() -> receive after infinity -> ok end end),
            register(?MODULE, Pid),
            Pid;
        Pid ->
            Pid
    end.
